//! Where tokens are found, and what is refused on the way.

use std::path::Path;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;

const TOKEN: &str = "aGVhZGVy.Y2FuYXJ5.c2lnbmF0dXJl";

fn selection(variables: &[(&str, &str)]) -> Selection {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    Selection::from_variables(variables.iter().map(owned))
}

fn ca() -> Audience {
    "https://ca.example:8443".parse().unwrap()
}

async fn token(source: &TokenSource) -> Result<IdToken, TokenError> {
    source
        .token(&ca(), &selection(&[("PATH", "/usr/bin:/bin")]), None)
        .await
}

/// A stand-in for GitHub: gives one answer, and the request that came.
async fn github(answer: &'static str) -> (String, tokio::task::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!(
        "http://{}/token?api-version=2",
        listener.local_addr().unwrap()
    );
    let served = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        let mut chunk = [0; 1024];
        while !request.windows(4).any(|end| end == b"\r\n\r\n") {
            let count = stream.read(&mut chunk).await.unwrap();
            request.extend_from_slice(&chunk[..count]);
        }
        stream.write_all(answer.as_bytes()).await.unwrap();
        String::from_utf8(request).unwrap()
    });
    (url, served)
}

fn of_github(url: &str) -> TokenSource {
    let selection = selection(&[(GITHUB_URL, url), (GITHUB_BEARER, "canary-bearer")]);
    TokenSource::of(&selection, None).unwrap()
}

fn script(dir: &Path, text: &str) -> TokenSource {
    let file = dir.join("token");
    crate::testing::write_program(&file, &format!("#!/bin/sh\n{text}\n"));
    TokenSource::Command(vec![file.display().to_string(), "one argument".to_owned()])
}

#[test]
fn aws_credentials_that_were_named_come_before_what_a_runner_offers() {
    let offer = [(GITHUB_URL, "https://x"), (GITHUB_BEARER, "b")];
    let with = |more: &[(&'static str, &'static str)]| {
        TokenSource::of(&selection(&[&offer, more].concat()), None)
    };
    assert!(matches!(with(&[]), Some(TokenSource::GitHub { .. })));
    assert!(with(&[("AWS_PROFILE", "dev")]).is_none());
    assert!(with(&[("AWS_ACCESS_KEY_ID", "AKIA")]).is_none());
    // What was written for this program is meant.
    let given = with(&[("AWS_PROFILE", "dev"), (VARIABLE, TOKEN)]);
    assert!(matches!(given, Some(TokenSource::Given(_))));
    let half = selection(&[(GITHUB_URL, "https://x")]);
    assert!(TokenSource::of(&half, None).is_none());
    assert!(TokenSource::of(&selection(&[]), None).is_none());
}

#[test]
fn another_profile_is_not_used_with_a_token_of_the_environment() {
    // H-14
    let job = selection(&[
        (VARIABLE, TOKEN),
        (FILE, "/x"),
        (GITHUB_URL, "https://x"),
        (GITHUB_BEARER, "b"),
    ]);
    assert!(TokenSource::of(&job.with_profile("dev"), None).is_none());
    let other = selection(&[(VARIABLE, "a.b.c")]);
    assert_ne!(job.id(), other.id());
    assert_ne!(other.id(), selection(&[]).id());
}

#[test]
fn a_configuration_that_says_two_things_or_nothing_is_refused() {
    for bad in [
        IdTokenConfig::default(),
        IdTokenConfig {
            command: vec!["token".to_owned()],
            ..IdTokenConfig::default()
        },
        IdTokenConfig {
            command: vec!["/bin/token".to_owned()],
            file: Some("/x".into()),
            ..IdTokenConfig::default()
        },
        IdTokenConfig {
            file: Some("x".into()),
            ..IdTokenConfig::default()
        },
    ] {
        assert!(bad.check().is_err(), "{bad:?}");
    }
}

#[test]
fn an_issuer_is_not_mixed_with_other_sources_and_its_client_is_plain_text() {
    let read = |text: &str| toml::from_str::<IdTokenConfig>(text).map_err(|e| e.to_string());
    let checked = |text: &str| read(text).and_then(|config| config.check().map(|()| config));
    let issuer = "issuer = \"https://issuer.example\"\n";
    for bad in [
        "issuer = \"http://issuer.example\"",
        "client_id = \"x\"",
        "file = \"/x\"\nscopes = [\"email\"]",
        &format!("{issuer}file = \"/x\""),
        &format!("{issuer}client_id = \"\""),
        &format!("{issuer}client_id = \"a\\nb\""),
        &format!("{issuer}scopes = [\"two words\"]"),
        &format!("{issuer}secret = \"x\""),
        &format!("{issuer}client_secret = \"\""),
        "file = \"/x\"\nclient_secret = \"x\"",
    ] {
        assert!(checked(bad).is_err(), "{bad}");
    }
    let registration = checked(issuer).unwrap().registration(&ca()).unwrap();
    assert_eq!(registration.client_id, ca().as_str());
    let own = checked(&format!(
        "{issuer}client_id = \"a b\"\nscopes = [\"email\"]"
    ));
    assert_eq!(own.unwrap().registration(&ca()).unwrap().client_id, "a b");
}

#[test]
fn each_source_has_its_own_remedy_for_each_refusal() {
    use ProblemCode::{ProofRefused, ProofReplayed, ProofStale};
    let sources = [
        TokenSource::Given(Secret::new("canary".to_owned())),
        TokenSource::File("/x".into()),
        of_github("https://x"),
        TokenSource::Command(vec!["/bin/x".to_owned()]),
        TokenSource::Person("https://issuer.example".parse().unwrap()),
    ];
    let id = "00112233445566778899aabbccddeeff".parse().unwrap();
    for code in [ProofReplayed, ProofStale] {
        let problem = Problem::new(code, "", id);
        for (source, told) in sources.iter().zip([
            "early in the job",
            "expirationSeconds",
            "try again",
            "print a fresh one",
            "run `eic-login`",
        ]) {
            let remedy = source.remedy(&problem, &ca());
            assert!(remedy.contains(told), "{source:?} {code:?}: {remedy}");
            assert!(
                !remedy.contains("operator"),
                "{source:?} {code:?}: {remedy}"
            );
        }
    }
    // Whose audience is in the job's hands is told of it; GitHub and the issuer are asked with the right one.
    let problem = Problem::new(ProofRefused, "", id);
    for (source, told) in sources.iter().zip([true, true, false, true, false]) {
        let remedy = source.remedy(&problem, &ca());
        assert_eq!(
            remedy.contains("made for the audience"),
            told,
            "{source:?}: {remedy}"
        );
        assert!(remedy.contains("operator"), "{source:?}: {remedy}");
    }
    let person = sources[4].remedy(&problem, &ca());
    assert!(
        person.contains("(without it: https://ca.example:8443)"),
        "{person}"
    );
}

#[tokio::test]
async fn a_bearer_token_never_goes_over_plain_http() {
    // D19
    for url in [
        "http://token.example/",
        "http://127.0.0.1.evil.example/",
        "ftp://x",
        "",
    ] {
        let source = TokenSource::GitHub {
            url: url.to_owned(),
            bearer: Secret::new("canary-bearer".to_owned()),
        };
        assert!(
            matches!(token(&source).await, Err(TokenError::Insecure)),
            "{url}"
        );
    }
}

#[tokio::test]
async fn answers_that_are_no_token_say_which_permission_is_missing() {
    // H-02: a redirect is not followed.
    for (answer, told) in [
        (
            "HTTP/1.1 302 X\r\nlocation: https://evil.example/\r\ncontent-length: 0\r\n\r\n",
            "302",
        ),
        (
            "HTTP/1.1 403 X\r\ncontent-length: 0\r\n\r\n",
            "id-token: write",
        ),
        (
            "HTTP/1.1 200 X\r\ncontent-length: 2\r\n\r\n{}",
            "id-token: write",
        ),
    ] {
        let (url, served) = github(answer).await;
        let error = token(&of_github(&url)).await.unwrap_err();
        assert!(error.to_string().contains(told), "{error}");
        assert!(!format!("{error:?}").contains("canary"), "{error:?}");
        served.await.unwrap();
    }
}

#[tokio::test]
async fn github_is_asked_for_a_token_for_this_ca_alone() {
    let answer = concat!(
        "HTTP/1.1 200 X\r\ncontent-length: 43\r\n\r\n",
        "{\"value\":\"aGVhZGVy.Y2FuYXJ5.c2lnbmF0dXJl\"} "
    );
    let (url, served) = github(answer).await;
    assert_eq!(token(&of_github(&url)).await.unwrap().reveal(), TOKEN);
    let request = served.await.unwrap();
    let line = "GET /token?api-version=2&audience=https%3A%2F%2Fca.example%3A8443 HTTP/1.1\r\n";
    assert!(request.starts_with(line), "{request}");
    assert!(
        request.contains("authorization: bearer canary-bearer\r\n"),
        "{request}"
    );
}

#[tokio::test]
async fn files_and_variables_without_a_token_are_named_and_not_shown() {
    // G-11
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    let source = TokenSource::File(file.clone());
    let missing = token(&source).await.unwrap_err();
    assert!(missing.to_string().contains(FILE), "{missing}");
    std::fs::write(&file, "canary that is no token").unwrap();
    let error = token(&source).await.unwrap_err();
    assert!(
        !format!("{error} {error:?} {source:?}").contains("canary"),
        "{error:?}"
    );
    std::fs::write(&file, format!("{TOKEN}\n")).unwrap();
    assert_eq!(token(&source).await.unwrap().reveal(), TOKEN);
    let given = TokenSource::Given(Secret::new("canary".to_owned()));
    let error = token(&given).await.unwrap_err();
    assert!(
        error.to_string().contains(VARIABLE) && !format!("{error} {given:?}").contains("canary")
    );
}

#[tokio::test]
async fn a_command_that_fails_gives_no_token_whatever_it_printed() {
    let dir = tempfile::tempdir().unwrap();
    let failing = script(dir.path(), &format!("echo {TOKEN}; exit 3"));
    assert!(matches!(token(&failing).await, Err(TokenError::Command(_))));
    let missing = TokenSource::Command(vec!["/nonexistent/program".to_owned()]);
    assert!(matches!(token(&missing).await, Err(TokenError::Command(_))));
}

#[tokio::test]
async fn a_command_is_told_the_audience_and_nothing_else_of_ours() {
    let dir = tempfile::tempdir().unwrap();
    let told = format!(
        "[ \"$EIC_AUDIENCE\" = https://ca.example:8443 ] && [ \"$1\" = 'one argument' ] && [ -z \"$HOME\" ] && echo {TOKEN}"
    );
    assert_eq!(
        token(&script(dir.path(), &told)).await.unwrap().reveal(),
        TOKEN
    );
}
