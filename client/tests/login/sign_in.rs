//! Signing in at an issuer: what is refused, in the browser and by a device's code; then the agent with such a sign-in,
//! and the whole program.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use eic_protocol::api::discovery::AuthMethod;
use eic_protocol::api::problem::ProblemCode;
use eic_protocol::api::session::Proof;
use eic_protocol::proof::oidc::bound_nonce;
use eic_protocol::subject_key::SubjectKey;
use serde_json::json;

use crate::clock::unix_now;
use crate::config::Config;
use crate::control::message::{Ask, PersonAsk, Reply, SignedIn};
use crate::credentials::Selection;
use crate::exit_code::{self, Failure};
use crate::issuer::{CANARY, CLIENT, Issuer, get};
use crate::real_ssh::{Scene, program, said};
use crate::stub::{INSTANCE, World, wait_for};
use eic_login::cause::Cause;
use eic_login::credentials::IdTokenConfig;
use eic_login::oidc::{self, OidcError, Person, Tokens, Way};

const NONCE: &str = "eic-v1-nonce";

/// A person with a browser that does as told before it follows the issuer.
#[derive(Default)]
struct Browser {
    /// Addresses to go to before the issuer's answer, with what to put for the callback's query; `Host` of each.
    before: Vec<(String, Option<String>)>,
    /// What the callback answered to each, and to the issuer's answer.
    seen: Arc<Mutex<Vec<String>>>,
    /// The code, and where to type it.
    told: Option<(String, String)>,
}

impl Person for Browser {
    fn visit(&mut self, url: &str) {
        let (url, before, seen) = (url.to_owned(), self.before.clone(), Arc::clone(&self.seen));
        tokio::spawn(async move {
            let (_, back) = get(&url, None).await.unwrap();
            let back = back.unwrap();
            let callback = back.split('?').next().unwrap();
            for (target, host) in before {
                let target = target.replace("CALLBACK", callback).replace("BACK", &back);
                let (answer, _) = get(&target, host.as_deref()).await.unwrap();
                seen.lock().unwrap().push(answer);
            }
            if let Ok((answer, _)) = get(&back, None).await {
                seen.lock().unwrap().push(answer);
            }
            // A second time: nobody is there any more.
            let again = get(&back, None).await;
            let told = again.map_or_else(|e| e.kind().to_string(), |(answer, _)| answer);
            seen.lock().unwrap().push(told);
        });
    }

    fn enter(&mut self, url: &str, code: &str, complete: Option<&str>) {
        assert!(complete.unwrap().ends_with(code));
        self.told = Some((url.to_owned(), code.to_owned()));
    }
}

async fn by(issuer: &Issuer, way: Way) -> Result<Tokens, OidcError> {
    let mut browser = Browser::default();
    oidc::sign_in(
        &issuer.registration(),
        way,
        NONCE,
        None,
        &mut browser,
        unix_now,
    )
    .await
}

#[tokio::test]
async fn an_answer_with_another_state_host_or_path_does_not_end_the_sign_in() {
    // G-16
    let issuer = Issuer::new().await;
    let mut browser = Browser {
        before: vec![
            ("CALLBACK?code=stolen&state=guessed".to_owned(), None),
            ("BACK".to_owned(), Some("evil.example".to_owned())),
            ("BACK&code=stolen".to_owned(), None),
            ("CALLBACK/x?code=stolen".to_owned(), None),
        ],
        ..Browser::default()
    };
    let registration = issuer.registration();
    let tokens = oidc::sign_in(
        &registration,
        Way::Browser,
        NONCE,
        None,
        &mut browser,
        unix_now,
    )
    .await;
    assert_eq!(tokens.unwrap().subject, "alice");
    let seen = Arc::clone(&browser.seen);
    wait_for(|| seen.lock().unwrap().len() == 6).await;
    let seen = seen.lock().unwrap();
    for (at, status) in ["400", "421", "400", "404", "200"].iter().enumerate() {
        assert!(
            seen[at].starts_with(&format!("HTTP/1.1 {status}")),
            "{at}: {}",
            seen[at]
        );
    }
    assert!(seen[5].contains("refused"), "one answer only: {}", seen[5]);
    // What was made up never reached the issuer.
    assert_eq!(issuer.state().asked.len(), 1);
    assert_eq!(issuer.state().asked[0]["code"], "the+code");
}

#[tokio::test]
async fn an_answer_that_is_of_another_issuer_or_an_error_asks_for_no_token() {
    let issuer = Issuer::new().await;
    for (names_itself, answer, code) in [
        (
            false,
            "code=c&state=STATE&iss=https%3A%2F%2Fevil.example",
            exit_code::UNTRUSTED,
        ),
        (true, "code=c&state=STATE", exit_code::UNTRUSTED),
        (
            false,
            "error=access_denied&error_description=no%1b&state=STATE",
            exit_code::CREDENTIALS,
        ),
        (false, "state=STATE", exit_code::CREDENTIALS),
    ] {
        issuer.state().names_itself = names_itself;
        issuer.state().answer = Some(answer.to_owned());
        let failure = Failure::from(by(&issuer, Way::Browser).await.unwrap_err());
        assert_eq!(
            (failure.code, failure.cause),
            (code, Cause::SignIn),
            "{answer}: {failure:?}"
        );
        assert!(!failure.message.contains('\u{1b}'), "{failure:?}");
    }
    assert!(issuer.state().asked.is_empty());
}

#[tokio::test]
async fn a_token_of_another_sign_in_client_or_issuer_is_not_kept() {
    let issuer = Issuer::new().await;
    for (claim, value) in [
        ("nonce", json!("replayed")),
        ("aud", json!("another-client")),
        ("iss", json!("https://evil.example")),
    ] {
        issuer.state().claims = [(claim, value)].into();
        let error = by(&issuer, Way::Browser).await.unwrap_err();
        assert!(
            matches!(error, OidcError::Claim(name) if name == claim),
            "{error}"
        );
        assert!(!format!("{error:?}").contains(CANARY), "{error:?}");
    }
}

#[tokio::test]
async fn a_code_that_was_used_or_a_redirected_or_endless_answer_gives_no_token() {
    // H-02
    let issuer = Issuer::new().await;
    for (raw, told) in [
        (
            "400 {\"error\":\"invalid_grant\"}".to_owned(),
            "invalid_grant",
        ),
        ("302 {}".to_owned(), "HTTP 302"),
        ("200 {}".to_owned(), "no ID token"),
        (format!("200 {}", " ".repeat(70_000)), "larger than"),
    ] {
        issuer.state().raw = Some(raw);
        let error = by(&issuer, Way::Browser).await.unwrap_err();
        assert!(error.to_string().contains(told), "{error}");
    }
}

#[tokio::test]
async fn an_issuer_that_is_another_silent_or_endless_is_given_up() {
    let issuer = Issuer::new().await;
    let with = |name: &'static str, value: serde_json::Value| {
        issuer.state().document = [(name, value)].into();
    };
    with("issuer", json!("https://evil.example"));
    let error = by(&issuer, Way::Browser).await.unwrap_err();
    assert!(matches!(error, OidcError::OtherIssuer(_)), "{error}");
    with("token_endpoint", json!("http://evil.example/token"));
    let error = by(&issuer, Way::Device).await.unwrap_err();
    assert!(matches!(error, OidcError::Insecure(_)), "{error}");
    with("padding", json!("x".repeat(70_000)));
    let error = by(&issuer, Way::Browser).await.unwrap_err();
    assert!(error.to_string().contains("larger than"), "{error}");
    with("device_authorization_endpoint", serde_json::Value::Null);
    let error = by(&issuer, Way::Device).await.unwrap_err();
    assert!(matches!(error, OidcError::NoDeviceFlow), "{error}");
    issuer.state().silent = true;
    let failure = Failure::from(by(&issuer, Way::Browser).await.unwrap_err());
    assert_eq!(failure.code, exit_code::UNREACHABLE, "{failure:?}");
}

#[tokio::test]
async fn a_code_that_was_denied_or_expired_ends_the_waiting() {
    let issuer = Issuer::new().await;
    for refused in ["access_denied", "expired_token"] {
        issuer.state().pending = vec!["authorization_pending", refused];
        let error = by(&issuer, Way::Device).await.unwrap_err();
        assert!(error.to_string().contains(refused), "{error}");
    }
}

#[tokio::test]
async fn a_device_asks_no_sooner_than_it_is_told() {
    let issuer = Issuer::new().await;
    issuer.state().pending = vec![
        "authorization_pending",
        "slow_down",
        "authorization_pending",
    ];
    let mut person = Browser::default();
    let begun = Instant::now();
    let registration = issuer.registration();
    let tokens = oidc::sign_in(
        &registration,
        Way::Device,
        NONCE,
        None,
        &mut person,
        unix_now,
    )
    .await;
    assert_eq!(tokens.unwrap().subject, "alice");
    // 1 + 1 s, then 6 + 6 s: the stand-in tells who is too early to slow down, and that would cost more.
    assert!(
        begun.elapsed() >= Duration::from_secs(14),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(issuer.state().asked.len(), 4);
    assert_eq!(person.told.unwrap().1, "WDJB-MJHT");
}

#[tokio::test]
async fn a_refresh_token_is_replaced_at_each_use_and_must_be_of_the_same_person() {
    let issuer = Issuer::new().await;
    issuer.state().refreshes = true;
    let first = by(&issuer, Way::Browser).await.unwrap();
    let second = oidc::renew(&first, None, unix_now()).await.unwrap();
    assert_ne!(first.id_token.reveal(), second.id_token.reveal());
    let stolen = oidc::renew(&first, None, unix_now()).await.unwrap_err();
    assert!(stolen.is_final(), "{stolen}");
    issuer.state().claims = [("sub", json!("mallory"))].into();
    let other = oidc::renew(&second, None, unix_now()).await.unwrap_err();
    assert!(matches!(other, OidcError::Claim("sub")), "{other}");
    assert!(!format!("{first:?} {second:?}").contains(CANARY));
}

#[tokio::test]
async fn an_issuer_that_wants_a_secret_of_installed_programs_gets_it_at_its_endpoints_and_not_by_the_browser()
 {
    let issuer = Issuer::new().await;
    issuer.state().secret = Some("canary-secret");
    issuer.state().refreshes = true;
    let tokens = by(&issuer, Way::Browser).await.unwrap();
    oidc::renew(&tokens, None, unix_now()).await.unwrap();
    by(&issuer, Way::Device).await.unwrap();
    assert!(!format!("{tokens:?}").contains("canary"), "{tokens:?}");
}

/// A world whose people sign in at this issuer, and whose CA takes its tokens.
fn introduce(world: &World, issuer: &Issuer) {
    world.state().auth.push(AuthMethod::Oidc {
        issuers: vec![issuer.url.clone()],
    });
    let mut config = Config::load(&world.paths).unwrap();
    config.id_token = Some(IdTokenConfig {
        issuer: Some(issuer.url.parse().unwrap()),
        client_id: Some(CLIENT.to_owned()),
        ..IdTokenConfig::default()
    });
    std::fs::write(world.paths.config_file(), config.to_toml().unwrap()).unwrap();
}

/// Somebody without AWS credentials.
fn nobody_of_aws(world: &World) -> Selection {
    let home = world.dir.path().to_str().unwrap().to_owned();
    Selection::from_variables([("HOME".to_owned(), home)])
}

async fn sign_in(world: &World, issuer: &Issuer) -> Result<SignedIn, Failure> {
    let key = begin(world).await;
    finish(world, issuer, key).await
}

/// The key that a sign-in is to be bound to.
async fn begin(world: &World) -> SubjectKey {
    match world.ask(Ask::PersonKey).await.1 {
        Reply::PersonKey(key) => key,
        other => panic!("{other:?}"),
    }
}

async fn finish(world: &World, issuer: &Issuer, key: SubjectKey) -> Result<SignedIn, Failure> {
    let selection = nobody_of_aws(world);
    let ca = Config::load(&world.paths).unwrap().ca.unwrap().url;
    let (nonce, registration) = (bound_nonce(&ca, &key), issuer.registration());
    let mut browser = Browser::default();
    let signing_in = oidc::sign_in(
        &registration,
        Way::Browser,
        &nonce,
        None,
        &mut browser,
        unix_now,
    );
    let tokens = signing_in.await.unwrap();
    let ask = PersonAsk {
        selection,
        tokens,
        key,
    };
    match world.ask(Ask::SignInAs(Box::new(ask))).await.1 {
        Reply::SignedIn(signed_in) => Ok(signed_in),
        Reply::Failed(failure) => Err(failure),
        other => panic!("{other:?}"),
    }
}

async fn connect(world: &World) -> Result<Vec<String>, Failure> {
    let mut ask = world.login("alice", INSTANCE);
    ask.selection = nobody_of_aws(world);
    world.connect(ask).await
}

#[tokio::test]
async fn a_login_of_somebody_who_is_not_signed_in_names_the_command() {
    let (world, issuer) = (World::new().await, Issuer::new().await);
    introduce(&world, &issuer);
    let refused = connect(&world).await.unwrap_err();
    assert_eq!(
        (refused.code, refused.cause),
        (exit_code::CREDENTIALS, Cause::SignIn)
    );
    assert!(refused.message.contains("run `eic-login`"), "{refused:?}");
    assert!(world.state().proofs.is_empty() && issuer.state().asked.is_empty());
}

#[tokio::test]
async fn a_sign_in_without_a_refresh_token_serves_one_session_and_says_so() {
    let (world, issuer) = (World::new().await, Issuer::new().await);
    introduce(&world, &issuer);
    world.state().session_seconds = 100;
    assert!(!sign_in(&world, &issuer).await.unwrap().renews);
    connect(&world).await.unwrap();
    // Nearly over: and yet the one token is not shown a second time.
    world.state().session_seconds = 0;
    assert_eq!(world.state().proofs.len(), 1);
    let again = world.ask(Ask::SignIn(nobody_of_aws(&world))).await.1;
    assert!(
        matches!(&again, Reply::Failed(failure) if failure.cause == Cause::SignIn),
        "{again:?}"
    );
    assert_eq!(world.state().proofs.len(), 1);
}

#[tokio::test]
async fn a_session_is_renewed_by_the_refresh_token_until_the_issuer_ends_it() {
    let (world, issuer) = (World::new().await, Issuer::new().await);
    introduce(&world, &issuer);
    issuer.state().refreshes = true;
    world.state().session_seconds = 100;
    assert!(sign_in(&world, &issuer).await.unwrap().renews);
    connect(&world).await.unwrap();
    let state = Arc::clone(&world.state);
    wait_for(|| state.lock().unwrap().proofs.len() == 2).await;
    let shown: Vec<String> = world
        .state()
        .proofs
        .iter()
        .map(|proof| match proof {
            Proof::Oidc(proof) => proof.token.reveal().to_owned(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(shown, issuer.state().given);
    // The issuer ends it: said once with its reason, then nobody is signed in.
    issuer.state().refreshes = false;
    let sign_in = || async { world.ask(Ask::SignIn(nobody_of_aws(&world))).await.1 };
    for told in ["is over: run `eic-login`", "nobody is signed in"] {
        let over = sign_in().await;
        assert!(
            matches!(&over, Reply::Failed(f) if f.message.contains(told) && f.cause == Cause::SignIn),
            "{over:?}"
        );
    }
}

#[tokio::test]
async fn a_token_that_the_ca_refuses_is_told_with_what_the_client_must_be_called() {
    let (world, issuer) = (World::new().await, Issuer::new().await);
    introduce(&world, &issuer);
    world.state().refuse_session = Some(ProblemCode::ProofRefused);
    let refused = sign_in(&world, &issuer).await.unwrap_err();
    assert!(
        refused.message.contains("`client_id` in [id_token]"),
        "{refused:?}"
    );
    assert!(!format!("{refused:?}").contains(CANARY), "{refused:?}");
}

#[tokio::test]
async fn each_sign_in_has_a_key_of_its_own_to_which_its_token_is_bound() {
    let (world, issuer) = (World::new().await, Issuer::new().await);
    introduce(&world, &issuer);
    for _ in 0..2 {
        sign_in(&world, &issuer).await.unwrap();
    }
    // One that is begun and given up changes nothing.
    issuer.state().refreshes = true;
    sign_in(&world, &issuer).await.unwrap();
    begin(&world).await;
    world.ask(Ask::SignIn(nobody_of_aws(&world))).await;
    let ca = Config::load(&world.paths).unwrap().ca.unwrap().url;
    let mut keys = world.state().sessions.clone();
    assert_eq!(keys.pop(), keys.last().cloned());
    let bound: Vec<String> = keys.iter().map(|key| bound_nonce(&ca, key)).collect();
    assert_ne!(bound[0], bound[1]);
    assert_eq!(issuer.state().nonces, bound);
}

#[tokio::test]
async fn a_token_that_an_absent_ca_did_not_take_is_shown_again() {
    let (world, issuer) = (World::new().await, Issuer::new().await);
    introduce(&world, &issuer);
    world.state().refuse_session = Some(ProblemCode::Overloaded);
    sign_in(&world, &issuer).await.unwrap_err();
    world.state().refuse_session = None;
    sign_in_later(&world).await;
    let proofs = world.state().proofs.clone();
    assert!(
        matches!(proofs.as_slice(), [Proof::Oidc(proof)] if *proof.token.reveal() == issuer.state().given[0]),
        "{proofs:?}"
    );
}

/// Proves the identity once more, without the person.
async fn sign_in_later(world: &World) {
    let again = world.ask(Ask::SignIn(nobody_of_aws(world))).await.1;
    assert!(matches!(again, Reply::SignedIn(_)), "{again:?}");
}

#[tokio::test]
async fn a_token_that_the_ca_took_without_its_answer_arriving_is_replaced_by_a_fresh_one() {
    let (world, issuer) = (World::new().await, Issuer::new().await);
    introduce(&world, &issuer);
    issuer.state().refreshes = true;
    world.state().lose_session = true;
    sign_in(&world, &issuer).await.unwrap_err();
    sign_in_later(&world).await;
    assert_eq!(
        (world.state().proofs.len(), issuer.state().given.len()),
        (2, 2)
    );
    // A CA that refuses each gets one fresh token at a time.
    world.state().refuse_session = Some(ProblemCode::ProofRefused);
    let refused = world.ask(Ask::SignIn(nobody_of_aws(&world))).await.1;
    assert!(matches!(refused, Reply::Failed(_)), "{refused:?}");
    assert_eq!(issuer.state().given.len(), 3);
}

#[tokio::test]
async fn a_token_that_expired_before_it_was_shown_is_renewed_first() {
    let (world, issuer) = (World::new().await, Issuer::new().await);
    introduce(&world, &issuer);
    issuer.state().refreshes = true;
    issuer.state().claims = [("exp", json!(unix_now() - 10))].into();
    sign_in(&world, &issuer).await.unwrap();
    let proofs = world.state().proofs.clone();
    assert!(
        matches!(proofs.as_slice(), [Proof::Oidc(proof)] if *proof.token.reveal() == issuer.state().given[1]),
        "{proofs:?}"
    );
}

#[tokio::test]
async fn the_key_of_a_sign_in_outlives_a_push_and_another_region_of_the_environment() {
    let (world, issuer) = (World::new().await, Issuer::new().await);
    introduce(&world, &issuer);
    issuer.state().refreshes = true;
    // Over at once: each use opens another.
    world.state().session_seconds = 10;
    sign_in(&world, &issuer).await.unwrap();
    // An issuer that keeps the nonce in the tokens that it refreshes.
    let nonce = issuer.state().nonces[0].clone();
    issuer.state().claims = [("nonce", json!(nonce))].into();
    world.state().absent = true;
    connect(&world).await.unwrap();
    world.state().absent = false;
    assert_eq!(world.state().pushes.len(), 1);
    sign_in_later(&world).await;
    let home = world.dir.path().to_str().unwrap().to_owned();
    let region = [("HOME", home), ("AWS_REGION", "eu-north-1".to_owned())];
    let elsewhere = Selection::from_variables(region.map(|(name, value)| (name.to_owned(), value)));
    let again = world.ask(Ask::SignIn(elsewhere)).await.1;
    assert!(matches!(again, Reply::SignedIn(_)), "{again:?}");
    let ca = Config::load(&world.paths).unwrap().ca.unwrap().url;
    let keys = world.state().sessions.clone();
    let bound: Vec<String> = keys.iter().map(|key| bound_nonce(&ca, key)).collect();
    // At least one for each use; the push is reported with one of its own.
    assert!(bound.len() >= 3, "{bound:?}");
    assert!(bound.iter().all(|bound| *bound == nonce), "{bound:?}");
}

#[tokio::test]
async fn of_two_sign_ins_at_once_each_has_its_own_key() {
    let (world, issuer) = (World::new().await, Issuer::new().await);
    introduce(&world, &issuer);
    let keys = [begin(&world).await, begin(&world).await];
    for key in keys.clone() {
        finish(&world, &issuer, key).await.unwrap();
    }
    assert_eq!(world.state().sessions, keys);
    // And each key serves one.
    let refused = finish(&world, &issuer, keys[0].clone()).await.unwrap_err();
    assert!(refused.message.contains("is not used"), "{refused:?}");
}

/// The environment of somebody without AWS credentials, with a browser that follows every redirect.
fn as_person(scene: &Scene, command: &mut std::process::Command) {
    let browser = scene.world.dir.path().join("browser");
    let script = "#!/usr/bin/env python3\nimport sys, urllib.request\nurllib.request.urlopen(sys.argv[1]).read()\n";
    crate::testing::write_program(&browser, script);
    command
        .env_clear()
        .env("HOME", scene.world.dir.path())
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("BROWSER", browser)
        .stdin(std::process::Stdio::null());
}

async fn eic(scene: &Scene, args: &[&str]) -> std::process::Output {
    let mut command = std::process::Command::new(program());
    command.args(args);
    as_person(scene, &mut command);
    let running = tokio::task::spawn_blocking(move || command.output().unwrap());
    running.await.unwrap()
}

#[tokio::test]
async fn somebody_without_aws_signs_in_in_the_browser_and_then_uses_plain_ssh() {
    let scene = Scene::new(Some(INSTANCE)).await;
    let issuer = Issuer::new().await;
    introduce(&scene.world, &issuer);
    issuer.state().refreshes = true;
    // ssh opens no browser, nor does anything else without a terminal that was not told to.
    let refused = scene
        .run("ssh", &[INSTANCE, "true"], |c| as_person(&scene, c))
        .await;
    assert!(
        said(&refused).contains("run `eic-login`"),
        "{}",
        said(&refused)
    );
    let refused = eic(&scene, &[]).await;
    assert!(
        said(&refused).contains("without a terminal it must be told"),
        "{}",
        said(&refused)
    );
    assert!(issuer.state().asked.is_empty());
    let signed_in = eic(&scene, &["--browser"]).await;
    assert!(
        said(&signed_in).contains("it renews itself"),
        "{}",
        said(&signed_in)
    );
    let output = scene
        .run("ssh", &[INSTANCE, "echo in"], |c| as_person(&scene, c))
        .await;
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "in\n",
        "{}",
        said(&output)
    );
    // H-05: no token reached a file.
    let found = std::process::Command::new("grep")
        .args(["-rlE", &format!("{CANARY}|the.code")])
        .arg(scene.world.dir.path())
        .output()
        .unwrap();
    assert_eq!(
        String::from_utf8_lossy(&found.stdout),
        "",
        "{}",
        said(&found)
    );
}

/// With a terminal of its own (util-linux's `script`), as somebody who types it has one.
async fn at_terminal(scene: &Scene, line: &str) -> std::process::Output {
    let mut command = std::process::Command::new("script");
    let line = format!("{} {line}", program().display());
    command.args(["--quiet", "--return", "--command", &line, "/dev/null"]);
    as_person(scene, &mut command);
    let running = tokio::task::spawn_blocking(move || command.output().unwrap());
    running.await.unwrap()
}

#[tokio::test]
async fn a_command_with_keys_of_its_own_signs_in_only_where_somebody_can_be_asked() {
    let scene = Scene::new(Some(INSTANCE)).await;
    let issuer = Issuer::new().await;
    introduce(&scene.world, &issuer);
    let target = format!("{}@{INSTANCE}", scene.user);
    let refused = eic(&scene, &["exec", "--target", &target, "--", "true"]).await;
    assert_eq!(refused.status.code(), Some(3), "{}", said(&refused));
    assert!(
        said(&refused).contains("nobody is signed in"),
        "{}",
        said(&refused)
    );
    assert!(issuer.state().asked.is_empty());
    // Signing in for the resident agent would not help: it leads to what does.
    let out = scene.world.dir.path().join("issued").display().to_string();
    let issue = eic(&scene, &["issue", "--target", &target, "--out", &out]).await;
    for told in [said(&refused), said(&issue)] {
        assert!(
            told.contains("need a terminal") && told.contains("EIC_ID_TOKEN"),
            "{told}"
        );
        assert!(!told.contains("run `eic-login`"), "{told}");
    }
    let listed = at_terminal(&scene, &format!("exec --target {target} -- ssh-add -l")).await;
    let told = said(&listed);
    assert!(
        told.contains("sign in at http://127.0.0.1:") && told.contains("ED25519-CERT"),
        "{told}"
    );
}

#[tokio::test]
async fn who_types_the_command_is_shown_the_page_and_a_device_code_where_there_is_no_browser() {
    let scene = Scene::new(Some(INSTANCE)).await;
    let issuer = Issuer::new().await;
    introduce(&scene.world, &issuer);
    let told = said(&at_terminal(&scene, "").await);
    assert!(
        told.contains("sign in at http://127.0.0.1:") && told.contains("Signed in at"),
        "{told}"
    );
    let told = said(&at_terminal(&scene, "--device").await);
    let shown = "enter the code WDJB-MJHT";
    assert!(
        told.contains(shown) && told.contains("Signed in at"),
        "{told}"
    );
}
