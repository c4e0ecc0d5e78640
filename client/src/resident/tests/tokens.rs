//! Signing in by tokens: those of an issuer in place of AWS credentials, and those of sts:GetWebIdentityToken beside them.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use eic_protocol::api::discovery::AuthMethod;
use eic_protocol::api::problem::ProblemCode;
use eic_protocol::api::session::Proof;

use super::stub::{INSTANCE, World};
use crate::control::message::{Ask, Reply, SignedIn};
use crate::credentials::Selection;
use crate::exit_code::{self, Failure};

const TOKEN: &str = "aGVhZGVy.Y2FuYXJ5.c2lnbmF0dXJl";

async fn sign_in(world: &World, selection: Selection) -> Result<SignedIn, Failure> {
    match world.ask(Ask::SignIn(selection)).await.1 {
        Reply::SignedIn(signed_in) => Ok(signed_in),
        Reply::Failed(failure) => Err(failure),
        other => panic!("{other:?}"),
    }
}

/// A job with a token in its environment; its AWS profile is one whose credentials have expired.
fn job(world: &World) -> Selection {
    let home = world.dir.path().to_str().unwrap().to_owned();
    let variables = [
        ("HOME", home),
        ("AWS_PROFILE", "EXPIRED".to_owned()),
        ("EIC_ID_TOKEN", TOKEN.to_owned()),
    ];
    Selection::from_variables(variables.map(|(name, value)| (name.to_owned(), value)))
}

fn oidc() -> AuthMethod {
    AuthMethod::Oidc {
        issuers: vec!["https://issuer.example".to_owned()],
    }
}

fn with_accounts() -> AuthMethod {
    AuthMethod::AwsSts {
        accounts: Vec::new(),
        web_identity: vec!["111122223333".parse().unwrap()],
    }
}

/// A token of this account, as STS answers it.
fn answer_of_sts(account: &str) -> (String, String) {
    let claims = format!(r#"{{"https://sts.amazonaws.com/":{{"aws_account":"{account}"}}}}"#);
    let token = format!("aGVhZGVy.{}.c2lnbmF0dXJl", URL_SAFE_NO_PAD.encode(claims));
    let answer = format!(
        "<GetWebIdentityTokenResponse><GetWebIdentityTokenResult><WebIdentityToken>{token}</WebIdentityToken>\
         </GetWebIdentityTokenResult></GetWebIdentityTokenResponse>"
    );
    (token, answer)
}

#[tokio::test]
async fn a_token_is_not_sent_to_a_ca_that_takes_none() {
    let world = World::new().await;
    let refused = sign_in(&world, job(&world)).await.unwrap_err();
    assert_eq!(refused.code, exit_code::CREDENTIALS, "{refused:?}");
    assert!(
        refused.message.contains("takes no ID tokens"),
        "{refused:?}"
    );
    assert!(world.state().proofs.is_empty());
}

#[tokio::test]
async fn a_refused_token_is_told_with_its_remedy_and_is_not_shown() {
    // G-11
    let world = World::new().await;
    world.state().auth.push(oidc());
    for (code, told) in [
        (
            ProblemCode::ProofRefused,
            "for the audience http://127.0.0.1:",
        ),
        (ProblemCode::ProofStale, "for 15 minutes after it was made"),
        (ProblemCode::ProofReplayed, "each token serves one sign-in"),
    ] {
        world.state().refuse_session = Some(code);
        let refused = sign_in(&world, job(&world)).await.unwrap_err();
        assert_eq!(refused.code, exit_code::CREDENTIALS, "{refused:?}");
        assert!(refused.message.contains(told), "{refused:?}");
        assert!(!format!("{refused:?}").contains("Y2FuYXJ5"), "{refused:?}");
    }
}

/// The job's token, in a file that somebody renews.
fn job_with_file(world: &World, token: &str) -> Selection {
    let file = world.dir.path().join("token");
    std::fs::write(&file, token).unwrap();
    let variables = [
        ("HOME", world.dir.path().to_str().unwrap().to_owned()),
        ("EIC_ID_TOKEN_FILE", file.display().to_string()),
    ];
    Selection::from_variables(variables.map(|(name, value)| (name.to_owned(), value)))
}

async fn connect(world: &World, selection: &Selection) {
    let mut ask = world.login("alice", INSTANCE);
    ask.selection = selection.clone();
    world.connect(ask).await.unwrap();
}

#[tokio::test]
async fn a_token_that_served_its_sign_in_is_not_shown_again() {
    for given in [true, false] {
        let world = World::new().await;
        world.state().auth.push(oidc());
        // So short that every login would renew it.
        world.state().session_seconds = 100;
        let job = match given {
            true => job(&world),
            false => job_with_file(&world, TOKEN),
        };
        assert_eq!(sign_in(&world, job.clone()).await.unwrap().renews, !given);
        connect(&world, &job).await;
        // The session that it opened is still good: signing in once more is no failure, and asks nobody.
        sign_in(&world, job.clone()).await.unwrap();
        assert_eq!(world.state().proofs.len(), 1, "given: {given}");
    }
}

#[tokio::test]
async fn a_spent_token_is_told_with_its_remedy_and_not_sent() {
    let world = World::new().await;
    world.state().auth.push(oidc());
    // Over as soon as it is opened.
    world.state().session_seconds = 10;
    sign_in(&world, job(&world)).await.unwrap();
    let refused = sign_in(&world, job(&world)).await.unwrap_err();
    let told = "has served its one sign-in: sign in early in the job, once";
    assert!(refused.message.contains(told), "{refused:?}");
    // Nor is one that the CA has called a replay.
    let renewed = job_with_file(&world, "aGVhZGVy.bmV3.c2lnbmF0dXJl");
    world.state().refuse_session = Some(ProblemCode::ProofReplayed);
    sign_in(&world, renewed.clone()).await.unwrap_err();
    world.state().refuse_session = None;
    let refused = sign_in(&world, renewed).await.unwrap_err();
    assert!(
        refused.message.contains("have the file renewed"),
        "{refused:?}"
    );
    assert_eq!(world.state().proofs.len(), 1);
}

#[tokio::test]
async fn a_file_with_another_token_opens_another_session() {
    let world = World::new().await;
    world.state().auth.push(oidc());
    sign_in(&world, job_with_file(&world, TOKEN)).await.unwrap();
    let renewed = job_with_file(&world, "aGVhZGVy.bmV3.c2lnbmF0dXJl");
    sign_in(&world, renewed).await.unwrap();
    assert_eq!(world.state().proofs.len(), 2);
}

#[tokio::test]
async fn a_ca_that_takes_no_tokens_is_asked_once_what_it_takes() {
    let world = World::new().await;
    let home = world.dir.path().to_str().unwrap();
    // GitHub's offer, which nobody wrote for this program.
    let variables = [
        ("HOME", home),
        ("PATH", "/bin:/usr/bin"),
        ("ACTIONS_ID_TOKEN_REQUEST_URL", "https://token.example/"),
        ("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "bearer"),
    ];
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
    sign_in(&world, Selection::from_variables(variables))
        .await
        .unwrap();
    assert_eq!(world.state().discoveries, 1);
    assert!(matches!(
        world.state().proofs.as_slice(),
        [Proof::AwsSts(_)]
    ));
}

#[tokio::test]
async fn a_job_with_a_token_signs_in_without_aws_credentials() {
    let world = World::new().await;
    world.state().auth.push(oidc());
    sign_in(&world, job(&world)).await.unwrap();
    let proofs = world.state().proofs.clone();
    assert!(
        matches!(proofs.as_slice(), [Proof::Oidc(proof)] if proof.token.reveal() == TOKEN),
        "{proofs:?}"
    );
}

#[tokio::test]
async fn a_token_of_sts_stands_beside_the_credentials_where_the_ca_takes_one_of_the_account() {
    let world = World::new().await;
    world.state().auth = vec![with_accounts()];
    // Of another account than those that the CA takes tokens of.
    let (_, other) = answer_of_sts("444455556666");
    world
        .state()
        .aws_answers
        .insert("GetWebIdentityToken", other);
    sign_in(&world, world.selection("OTHER")).await.unwrap();
    let (token, answer) = answer_of_sts("111122223333");
    world
        .state()
        .aws_answers
        .insert("GetWebIdentityToken", answer);
    sign_in(&world, world.selection("MAIN")).await.unwrap();
    let proofs = world.state().proofs.clone();
    assert!(
        matches!(proofs.as_slice(), [Proof::AwsSts(_), Proof::AwsWebIdentity(both)] if both.token.reveal() == token),
        "{proofs:?}"
    );
}

#[tokio::test]
async fn sts_is_not_asked_again_for_an_account_of_which_no_token_is_taken() {
    let world = World::new().await;
    world.state().auth = vec![with_accounts()];
    let (_, other) = answer_of_sts("123456789012");
    world
        .state()
        .aws_answers
        .insert("GetWebIdentityToken", other);
    let again = || sign_in(&world, world.selection("MAIN"));
    again().await.unwrap();
    again().await.unwrap();
    assert_eq!(world.state().aws_asked, ["GetWebIdentityToken"]);
    // Another account's credentials under the same name: the CA says that it wants a token, and gets one.
    world.state().refuse_session = Some(ProblemCode::WebIdentityRequired);
    again().await.unwrap_err();
    assert_eq!(world.state().aws_asked.len(), 2);
}

#[tokio::test]
async fn where_aws_gives_no_token_and_the_ca_wants_one_the_missing_permission_is_told() {
    let world = World::new().await;
    {
        let mut state = world.state();
        state.auth = vec![with_accounts()];
        state.aws_refuses = Some(("GetWebIdentityToken", "AccessDenied"));
        state.refuse_session = Some(ProblemCode::WebIdentityRequired);
    }
    let refused = sign_in(&world, world.selection("MAIN")).await.unwrap_err();
    let told = &refused.message;
    assert!(
        told.contains("sts:GetWebIdentityToken") && told.contains("AccessDenied"),
        "{told}"
    );
    assert_eq!(refused.code, exit_code::CREDENTIALS);
    // A CA that can do without takes the credentials alone.
    world.state().refuse_session = None;
    sign_in(&world, world.selection("MAIN")).await.unwrap();
    assert!(matches!(
        world.state().proofs.as_slice(),
        [Proof::AwsSts(_)]
    ));
}
