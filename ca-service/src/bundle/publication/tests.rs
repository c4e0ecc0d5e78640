//! Tests of the parent module.

use super::*;
use crate::testing::http_stub::{HttpStub, response};

const NOW: u64 = 1_800_000_000;

fn bucket(stub: &HttpStub) -> Destination {
    let folder: S3Folder = "s3://eic-trust/prod".parse().unwrap();
    let region = "eu-west-1".parse().unwrap();
    let credentials = Credentials::new("AKIAIOSFODNN7EXAMPLE", "secret", None, None, "test");
    Destination::S3(Box::new(Bucket {
        client: HttpClient::plain_only().unwrap(),
        endpoint: S3Endpoint::of(&folder, region, Some(stub.origin())).unwrap(),
        folder,
        region,
        provider: SharedCredentialsProvider::new(credentials),
    }))
}

#[tokio::test]
async fn what_s3_refuses_is_named_with_its_place() {
    let denied = "<Error><Code>AccessDenied</Code><Message>no</Message></Error>";
    let stub = HttpStub::start(move |_| response(403, NOW, denied)).await;
    let destination = bucket(&stub);
    let round = destination.begin().await.unwrap();
    let refused = round
        .put(BUNDLE_FILE, b"{}".to_vec(), NOW)
        .await
        .unwrap_err();
    let told = refused.to_string();
    assert!(told.starts_with("put `trust-bundle.json` into `s3://eic-trust/prod`: "));
    assert!(told.contains("AccessDenied"), "{told}");
}

#[tokio::test]
async fn a_folder_that_cannot_be_made_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    assert!(Destination::Folder(file).begin().await.is_err());
}

#[tokio::test]
async fn files_go_where_hosts_look_for_them() {
    let host: InstanceId = "i-0123456789abcdef0".parse().unwrap();
    let stub = HttpStub::start(|_| response(200, NOW, "")).await;
    let folder = tempfile::tempdir().unwrap();
    let places = [bucket(&stub), Destination::Folder(folder.path().to_owned())];
    for place in &places {
        let round = place.begin().await.unwrap();
        for (name, text, now) in [
            (BUNDLE_FILE, "{\"a\":1}", NOW),
            (&view_name(&host), "{}", NOW + 86_400),
        ] {
            round.put(name, text.into(), now).await.unwrap();
        }
    }
    let lines: Vec<_> = stub.received().iter().map(first_line).collect();
    let put = |name: &str| format!("PUT /eic-trust/prod/{name} HTTP/1.1");
    let view = "hosts/i-0123456789abcdef0.json";
    assert_eq!(lines, [put(BUNDLE_FILE), put(view)]);
    // Each is signed at its own time: a long round outlives the quarter of an hour that S3 allows.
    let received = stub.received();
    let dates = received.iter().map(|put| put.header("x-amz-date").unwrap());
    let days: Vec<_> = dates.map(|date| date[..8].to_owned()).collect();
    assert_eq!(days, ["20270115", "20270116"]);
    let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
    assert_eq!(
        (read(BUNDLE_FILE), read(view)),
        ("{\"a\":1}".into(), "{}".into())
    );
}

fn first_line(request: &crate::testing::http_stub::Received) -> String {
    request.head.lines().next().unwrap_or_default().to_owned()
}
