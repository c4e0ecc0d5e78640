//! Tests of the parent module.

use super::*;
use crate::proof::{CanonicalRequest, Fields, Route, Signed};

struct Nothing;

impl Signed for Nothing {
    const ROUTE: Route = Route::Sessions;

    fn fields(&self, _: &mut Fields) {}
}

fn json(changes: &[(&str, &str)]) -> String {
    let mut members = vec![
        ("region", "us-east-1".to_owned()),
        ("access_key_id", "AKIAIOSFODNN7EXAMPLE".to_owned()),
        ("date", "20261122T013000Z".to_owned()),
        ("signature", "0".repeat(64)),
    ];
    for (name, value) in changes {
        members.retain(|(n, _)| n != name);
        members.push((name, (*value).to_owned()));
    }
    serde_json::to_string(
        &members
            .into_iter()
            .collect::<std::collections::BTreeMap<_, _>>(),
    )
    .unwrap()
}

fn parse(changes: &[(&str, &str)]) -> Result<AwsStsProof, serde_json::Error> {
    serde_json::from_str(&json(changes))
}

#[test]
fn fields_that_could_express_another_request_are_refused() {
    //
    for change in [
        ("region", "us-east-1.evil.com#"),
        ("region", "sts.amazonaws.com"),
        ("access_key_id", "akiaiosfodnn7example"),
        ("access_key_id", "AKIA/20261122/us-east-1"),
        ("access_key_id", "SHORT"),
        ("signature", "0"),
        (
            "signature",
            "Z000000000000000000000000000000000000000000000000000000000000000",
        ),
        ("session_token", "a\r\nX-Evil: 1"),
        ("session_token", ""),
        ("session_token", "a b"),
        ("session_token", "\u{80}"),
        ("body", "Action=AssumeRole"),
        ("host", "evil.example"),
        ("signed_headers", "host"),
    ] {
        assert!(parse(&[change]).is_err(), "{change:?}");
    }
    assert!(parse(&[("session_token", &"a".repeat(8193))]).is_err());
    assert!(parse(&[("session_token", "YWJj")]).is_ok());
}

#[test]
fn repeated_members_are_refused() {
    //
    let text = json(&[]).replacen('{', "{\"region\":\"eu-west-1\",", 1);
    assert!(serde_json::from_str::<AwsStsProof>(&text).is_err());
}

#[test]
fn dates_that_do_not_exist_are_refused() {
    //
    for bad in [
        "",
        "20261122",
        "20261122T013000",
        "20261322T013000Z",
        "20260230T013000Z",
        "20261122T240000Z",
        "20261122T016000Z",
        "20261122T013060Z",
        "20261122 013000Z",
        "2026-11-22T01:30",
        "+0261122T013000Z",
        "19691231T235959Z",
        "20261100T000000Z",
        "20260001T000000Z",
    ] {
        assert!(bad.parse::<AmzDate>().is_err(), "{bad}");
    }
    assert_eq!(
        "20240229T120000Z".parse::<AmzDate>().unwrap().unix(),
        1_709_208_000
    );
    assert_eq!("19700101T000000Z".parse::<AmzDate>().unwrap().unix(), 0);
}

#[test]
fn only_five_minutes_either_way_are_fresh() {
    let date: AmzDate = "20261122T013000Z".parse().unwrap();
    let now = date.unix();
    assert!(date.is_fresh(now + 300) && date.is_fresh(now - 300));
    assert!(!date.is_fresh(now + 301) && !date.is_fresh(now - 301));
    assert!(!"99991231T235959Z".parse::<AmzDate>().unwrap().is_fresh(now));
}

#[test]
fn the_rebuilt_request_holds_nothing_that_the_client_wrote_freely() {
    // host, path, body and header names are ours.
    let proof = parse(&[("session_token", "YWJj")]).unwrap();
    let audience: Audience = "https://ca.example".parse().unwrap();
    let digest = CanonicalRequest::of(&audience, &Nothing).digest();
    let request = proof.rebuild(&audience, digest);
    assert_eq!(request.host, "sts.us-east-1.amazonaws.com");
    let names: Vec<_> = request.headers.iter().map(|(name, _)| *name).collect();
    assert_eq!(
        names,
        [
            "content-type",
            "host",
            "x-amz-date",
            "x-amz-security-token",
            "x-eic-audience",
            "x-eic-request",
            "authorization"
        ]
    );
    let authorization = request.headers.last().unwrap().1.reveal();
    assert_eq!(
        authorization,
        &format!(
            "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20261122/us-east-1/sts/aws4_request, \
             SignedHeaders=content-type;host;x-amz-date;x-amz-security-token;x-eic-audience;x-eic-request, \
             Signature={}",
            "0".repeat(64)
        )
    );
}

#[test]
fn secrets_do_not_show_in_debug_output() {
    // G-11
    let proof = parse(&[
        ("session_token", "Y2FuYXJ5"),
        ("signature", &"ab".repeat(32)),
    ])
    .unwrap();
    let audience: Audience = "https://ca.example".parse().unwrap();
    let request = proof.rebuild(
        &audience,
        CanonicalRequest::of(&audience, &Nothing).digest(),
    );
    let shown = format!("{proof:?} {request:?}");
    assert!(
        !shown.contains("Y2FuYXJ5") && !shown.contains(&"ab".repeat(32)),
        "{shown}"
    );
}
