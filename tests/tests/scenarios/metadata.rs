//! The instance metadata stand-in: IMDSv2 tokens, signed records as OpenSSL judges them, and faults.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use eic_lab::error::Result;
use eic_lab::standin::MetadataFault;
use eic_lab::{Host, Lab};

use crate::aws_calls::{INSTANCE_CONNECT, push};

const KEYS: &str = "meta-data/managed-ssh-keys/active-keys/ubuntu/";

/// How long an answer may be silent, and take in all.
#[derive(Clone, Copy)]
struct Patience(Duration, Duration);

/// For an answer that comes: a busy machine's time.
const HONEST: Patience = Patience(Duration::from_secs(10), Duration::from_secs(20));

/// For one that does not.
const SLOW: Patience = Patience(Duration::from_secs(3), Duration::from_secs(3));

/// One request on the host as it is, and its answer.
fn ask(host: &Host, method: &str, path: &str, header: &str) -> std::io::Result<(String, String)> {
    ask_for(HONEST, host, method, path, header)
}

/// The same with all of the answer that arrives in time.
fn ask_for(
    Patience(silence, limit): Patience,
    host: &Host,
    method: &str,
    path: &str,
    header: &str,
) -> std::io::Result<(String, String)> {
    let address = SocketAddr::from(([169, 254, 169, 254], 80));
    let request = format!(
        "{method} /latest/{path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{header}\r\n\r\n"
    );
    let exchange = move || {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(silence))?;
        stream.write_all(request.as_bytes())?;
        read_for(&mut stream, limit)
    };
    let answer = host.room().in_network(exchange).unwrap()?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    Ok((
        head.split(' ').nth(1).unwrap_or_default().to_owned(),
        body.to_owned(),
    ))
}

fn read_for(stream: &mut TcpStream, limit: Duration) -> std::io::Result<String> {
    let (end, mut text, mut buffer) = (Instant::now() + limit, Vec::new(), [0; 4096]);
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return Ok(String::from_utf8_lossy(&text).into_owned()),
            Ok(length) => text.extend_from_slice(&buffer[..length]),
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
        if Instant::now() > end {
            return Err(ErrorKind::TimedOut.into());
        }
    }
}

fn token(host: &Host) -> std::io::Result<(String, String)> {
    token_for(HONEST, host)
}

fn token_for(patience: Patience, host: &Host) -> std::io::Result<(String, String)> {
    ask_for(
        patience,
        host,
        "PUT",
        "api/token",
        "X-aws-ec2-metadata-token-ttl-seconds: 300",
    )
}

#[test]
fn requests_without_a_living_token_are_refused() -> Result<()> {
    let lab = Lab::new()?;
    let web = lab.host("web-1").start()?;
    let status = |method, path, header: &str| ask(&web, method, path, header).unwrap().0;
    assert_eq!(status("GET", "meta-data/instance-id", "X: y"), "401");
    assert_eq!(
        status(
            "GET",
            "meta-data/instance-id",
            "X-aws-ec2-metadata-token: guessed"
        ),
        "401"
    );
    for ttl in ["0", "21601", "x"] {
        let header = format!("X-aws-ec2-metadata-token-ttl-seconds: {ttl}");
        assert_eq!(status("PUT", "api/token", &header), "400", "{ttl}");
    }
    let forwarded = "X-aws-ec2-metadata-token-ttl-seconds: 9\r\nX-Forwarded-For: 10.0.0.1";
    assert_eq!(status("PUT", "api/token", forwarded), "403");

    let header = format!("X-aws-ec2-metadata-token: {}", token(&web).unwrap().1);
    let right = ask(&web, "GET", "meta-data/instance-id/", &header).unwrap();
    assert_eq!(right, ("200".to_owned(), web.id().to_owned()));
    lab.clock().advance(300);
    assert_eq!(
        status("GET", "meta-data/instance-id", &header),
        "401",
        "the token has expired"
    );
    Ok(())
}

#[test]
fn pushed_key_shows_up_as_a_record_that_openssl_verifies_and_expires() -> Result<()> {
    let lab = Lab::new()?;
    let aws = lab.aws()?;
    let alice = aws.user("alice", INSTANCE_CONNECT)?;
    let key = lab.client("keys")?.make_key("id_ed25519")?;
    let web = lab.host("web-1").start()?;
    let header = format!("X-aws-ec2-metadata-token: {}", token(&web).unwrap().1);
    let get = |path: &str| ask(&web, "GET", path, &header).unwrap();
    assert_eq!(get(KEYS).0, "404", "no key is active");

    aws.call(&alice, &push(web.id(), "ubuntu", &key))?;
    assert_eq!(
        ask(&web, "HEAD", KEYS, &header).unwrap(),
        ("200".into(), String::new())
    );
    let record = get(KEYS).1;
    assert!(
        record.contains("#Caller=arn:aws:iam::123456789012:user/alice\n"),
        "{record}"
    );
    verify_record(
        &web,
        &record,
        &get("meta-data/managed-ssh-keys/signer-cert/").1,
    )?;
    let names = get("meta-data/managed-ssh-keys/signer-ocsp/").1;
    assert_eq!(names.lines().count(), 2, "{names}");
    let first = names.lines().next().unwrap();
    verify_staple(
        &web,
        &get(&format!("meta-data/managed-ssh-keys/signer-ocsp/{first}")).1,
    )?;

    lab.clock().advance(60);
    assert_eq!(get(KEYS).0, "404", "the key has expired");
    Ok(())
}

/// Checks chain and signature of a record as the official scripts do.
fn verify_record(host: &Host, record: &str, chain: &str) -> Result<()> {
    let mut certificates = chain.split_inclusive("-----END CERTIFICATE-----\n");
    for name in ["signer", "intermediate", "root"] {
        fs::write(
            host.file(&format!("/tmp/{name}")),
            certificates.next().unwrap(),
        )
        .unwrap();
    }
    let (headers, rest) = record.split_at(record.find("ssh-ed25519").unwrap());
    let (key, signature) = rest.split_once('\n').unwrap();
    fs::write(host.file("/tmp/signed"), format!("{headers}{key}\n")).unwrap();
    fs::write(
        host.file("/tmp/signature64"),
        format!("{}\n", signature.trim_end()),
    )
    .unwrap();
    let script = "cd /tmp && openssl verify -x509_strict -CAfile root -untrusted intermediate signer \
        && openssl x509 -in signer -noout -pubkey > public && openssl base64 -d -in signature64 -out signature \
        && openssl dgst -sha256 -verify public -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:32 -signature signature signed";
    assert_eq!(
        host.exec("sh", ["-c", script])?.stdout,
        "signer: OK\nVerified OK\n"
    );
    Ok(())
}

/// Checks the signer's staple as the official scripts do; [`verify_record`] has left the certificates.
fn verify_staple(host: &Host, staple: &str) -> Result<()> {
    fs::write(host.file("/tmp/staple64"), staple).unwrap();
    let script = "cd /tmp && openssl base64 -d -A -in staple64 -out staple && openssl ocsp -no_nonce \
        -issuer intermediate -cert signer -VAfile intermediate -respin staple";
    let verdict = host.exec("sh", ["-c", script])?;
    assert!(verdict.stdout.starts_with("signer: good"), "{verdict:?}");
    Ok(())
}

#[test]
fn metadata_service_is_wrong_in_the_way_that_was_asked_for() -> Result<()> {
    let lab = Lab::new()?;
    let mut web = lab.host("web-1").start()?;
    let answers = [
        (MetadataFault::Status(500), "500"),
        (
            MetadataFault::Redirect("http://169.254.169.254/x".into()),
            "302",
        ),
    ];
    for (fault, status) in answers {
        web.metadata()?.set_fault("api/", fault);
        assert_eq!(token(&web).unwrap().0, status);
    }
    web.metadata()?
        .set_fault("api/", MetadataFault::Oversized(100_000));
    assert!(token(&web).unwrap().1.len() > 100_000);
    web.metadata()?.set_fault("api/", MetadataFault::Silent);
    assert_eq!(
        token_for(SLOW, &web).unwrap_err().kind(),
        ErrorKind::WouldBlock,
        "silence"
    );
    web.metadata()?
        .set_fault("api/", MetadataFault::Drip(Duration::from_millis(200)));
    assert_eq!(
        token_for(SLOW, &web).unwrap_err().kind(),
        ErrorKind::TimedOut,
        "56 bytes take 11 s"
    );
    web.metadata()?.clear();
    web.stop_metadata()?;
    assert_eq!(
        token(&web).unwrap_err().kind(),
        ErrorKind::ConnectionRefused
    );
    web.start_metadata()?;
    assert_eq!(token(&web).unwrap().0, "200");
    Ok(())
}
