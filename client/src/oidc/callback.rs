//! Where the issuer sends the browser back to (RFC 8252 §7.3): one port of 127.0.0.1, one path, one answer, then closed.
//! Other programs and pages of this machine reach it too: what is not the answer of this sign-in changes nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use eic_protocol::secret::Secret;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{Sender, channel};

use super::{IssuerUrl, OidcError, form};

/// The only path.
const PATH: &str = "/callback";
/// How long a request may take to arrive. Browsers open connections that they do not use.
const REQUEST_DEADLINE: Duration = Duration::from_secs(10);
/// Longest request. Bytes; codes of Microsoft's issuer have 1.5 KiB.
const MAX_HEAD: usize = 16 * 1024;
/// Most connections at a time.
const MAX_CONNECTIONS: usize = 16;

/// An open port.
pub(super) struct Callback {
    listener: TcpListener,
    authority: String,
}

/// What the answer must be like.
#[derive(Clone)]
pub(super) struct Expected {
    pub(super) state: Secret<String>,
    pub(super) issuer: IssuerUrl,
    /// Whether the issuer always says who it is.
    pub(super) names_itself: bool,
}

type Outcome = Result<Secret<String>, OidcError>;

impl Callback {
    pub(super) async fn open() -> Result<Self, OidcError> {
        let listener = TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.map_err(OidcError::Listen)?;
        let address = listener.local_addr().map_err(OidcError::Listen)?;
        Ok(Self {
            listener,
            authority: address.to_string(),
        })
    }

    pub(super) fn redirect_uri(&self) -> String {
        format!("http://{}{PATH}", self.authority)
    }

    /// The code that the issuer sends, or why there is none; within `patience`.
    pub(super) async fn code(self, expected: &Expected, patience: Duration) -> Outcome {
        let (sender, mut outcomes) = channel(1);
        let serving = async {
            let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
            loop {
                let place = Arc::clone(&places).acquire_owned().await;
                let Ok((stream, _)) = self.listener.accept().await else {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                };
                let (authority, expected) = (self.authority.clone(), expected.clone());
                let sender = sender.clone();
                tokio::spawn(async move {
                    let talk = converse(stream, &authority, &expected, &sender);
                    // A browser that says nothing is let go.
                    let _ = tokio::time::timeout(REQUEST_DEADLINE, talk).await;
                    drop(place);
                });
            }
        };
        tokio::select! {
            outcome = outcomes.recv() => outcome.unwrap_or(Err(OidcError::TimedOut(patience))),
            () = serving => Err(OidcError::TimedOut(patience)),
            () = tokio::time::sleep(patience) => Err(OidcError::TimedOut(patience)),
        }
    }
}

async fn converse(
    mut stream: TcpStream,
    authority: &str,
    expected: &Expected,
    outcomes: &Sender<Outcome>,
) -> std::io::Result<()> {
    let head = read_head(&mut stream).await?;
    let judged = head
        .as_deref()
        .ok_or(Refusal::MALFORMED)
        .and_then(|head| judge(head, authority, expected));
    let (status, text) = match &judged {
        Err(refusal) => (refusal.0, refusal.1),
        Ok(Err(_)) => (
            "200 OK",
            "You are not signed in: your terminal says why. You can close this page.",
        ),
        Ok(Ok(_)) => (
            "200 OK",
            "The answer has arrived: go back to your terminal. You can close this page.",
        ),
    };
    let written = stream.write_all(page(status, text).as_bytes()).await;
    let _ = stream.shutdown().await;
    if let Ok(outcome) = judged {
        // The first one counts; whoever comes later finds the channel full or gone.
        let _ = outcomes.try_send(outcome);
    }
    written
}

/// The head of a request; none where it is no text or too long.
async fn read_head(stream: &mut TcpStream) -> std::io::Result<Option<String>> {
    let mut bytes = Vec::new();
    let mut piece = [0; 2048];
    while !bytes.windows(4).any(|end| end == b"\r\n\r\n") {
        let count = stream.read(&mut piece).await?;
        if count == 0 || bytes.len() > MAX_HEAD {
            return Ok(None);
        }
        bytes.extend_from_slice(piece.get(..count).unwrap_or_default());
    }
    Ok(String::from_utf8(bytes).ok())
}

/// A request that is not the answer: its status and a word to whoever sent it.
#[derive(Debug, PartialEq, Eq)]
struct Refusal(&'static str, &'static str);

impl Refusal {
    const MALFORMED: Self = Self("400 Bad Request", "This is no answer to a sign-in.");
    const METHOD: Self = Self("405 Method Not Allowed", "This is no answer to a sign-in.");
    const HOST: Self = Self("421 Misdirected Request", "This is no answer to a sign-in.");
    const PATH: Self = Self("404 Not Found", "There is nothing here.");
    const STATE: Self = Self(
        "400 Bad Request",
        "This belongs to another sign-in: nothing was done.",
    );
}

/// Whether a request is the answer of this sign-in, and what it says. Only who knows the state ends the waiting.
fn judge(head: &str, authority: &str, expected: &Expected) -> Result<Outcome, Refusal> {
    let mut lines = head.split("\r\n");
    let mut words = lines.next().unwrap_or_default().split(' ');
    if words.next() != Some("GET") {
        return Err(Refusal::METHOD);
    }
    let target = words.next().unwrap_or_default();
    // Another name for this machine is a page's trick to read the answer (DNS rebinding, G-16).
    let hosts = lines.filter_map(|line| line.split_once(':'));
    let mut hosts = hosts.filter(|(name, _)| name.eq_ignore_ascii_case("host"));
    if hosts.next().map(|(_, host)| host.trim()) != Some(authority) || hosts.next().is_some() {
        return Err(Refusal::HOST);
    }
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    if path != PATH {
        return Err(Refusal::PATH);
    }
    let parameters = form::read(query).ok_or(Refusal::MALFORMED)?;
    let state = parameters.get("state").map(String::as_bytes);
    let state = state.unwrap_or_default();
    verify_slices_are_equal(state, expected.state.reveal().as_bytes())
        .map_err(|_| Refusal::STATE)?;
    Ok(outcome(parameters, expected))
}

fn outcome(mut parameters: BTreeMap<String, String>, expected: &Expected) -> Outcome {
    // Before anything else of the answer is believed (RFC 9207 §2.4).
    match parameters.get("iss") {
        Some(issuer) if issuer != expected.issuer.as_str() => return Err(OidcError::MixUp),
        None if expected.names_itself => return Err(OidcError::MixUp),
        _ => {}
    }
    if let Some(code) = parameters.remove("error") {
        let told = parameters.remove("error_description").unwrap_or_default();
        return Err(OidcError::Refused { code, told });
    }
    match parameters.remove("code").filter(|code| !code.is_empty()) {
        Some(code) => Ok(Secret::new(code)),
        None => Err(OidcError::Malformed("the issuer's answer in the browser")),
    }
}

/// No script, no other page's frame, nothing kept, and the address with the code is told to nobody.
fn page(status: &str, text: &str) -> String {
    let body =
        format!("<!doctype html><meta charset=utf-8><title>eic-login</title><p>{text}</p>\n");
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: text/html; charset=utf-8\r\ncontent-length: {}\r\nconnection: close\r\n\
         cache-control: no-store\r\nreferrer-policy: no-referrer\r\nx-content-type-options: nosniff\r\n\
         content-security-policy: default-src 'none'; frame-ancestors 'none'\r\n\r\n{body}",
        body.len()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const AUTHORITY: &str = "127.0.0.1:4321";

    fn expected(names_itself: bool) -> Expected {
        Expected {
            state: Secret::new("right".to_owned()),
            issuer: "https://issuer.example".parse().unwrap(),
            names_itself,
        }
    }

    fn get(target: &str) -> Result<Outcome, Refusal> {
        let head = format!("GET {target} HTTP/1.1\r\nHost: {AUTHORITY}\r\n\r\n");
        judge(&head, AUTHORITY, &expected(false))
    }

    #[test]
    fn foreign_hosts_methods_and_paths_change_nothing() {
        // G-16
        let target = "/callback?code=c&state=right";
        for (head, refusal) in [
            (format!("GET {target} HTTP/1.1\r\n\r\n"), Refusal::HOST),
            (
                format!("GET {target} HTTP/1.1\r\nHost: evil.example:4321\r\n\r\n"),
                Refusal::HOST,
            ),
            (
                format!("GET {target} HTTP/1.1\r\nHost: localhost:4321\r\n\r\n"),
                Refusal::HOST,
            ),
            (
                format!("GET {target} HTTP/1.1\r\nHost: {AUTHORITY}\r\nHost: x\r\n\r\n"),
                Refusal::HOST,
            ),
            (
                format!("POST {target} HTTP/1.1\r\nHost: {AUTHORITY}\r\n\r\n"),
                Refusal::METHOD,
            ),
            (String::new(), Refusal::METHOD),
        ] {
            let judged = judge(&head, AUTHORITY, &expected(false));
            assert_eq!(judged.unwrap_err(), refusal, "{head:?}");
        }
        for path in [
            "/?code=c&state=right",
            "/favicon.ico",
            "/callback/?state=right",
            "/%63allback?state=right",
        ] {
            assert_eq!(get(path).unwrap_err(), Refusal::PATH, "{path}");
        }
    }

    #[test]
    fn an_answer_with_another_state_is_none_of_ours() {
        for query in [
            "code=c",
            "code=c&state=wrong",
            "code=c&state=",
            "code=c&state=righ",
            "error=access_denied",
        ] {
            assert_eq!(
                get(&format!("/callback?{query}")).unwrap_err(),
                Refusal::STATE,
                "{query}"
            );
        }
        let twice = get("/callback?code=c&state=wrong&state=right");
        assert_eq!(twice.unwrap_err(), Refusal::MALFORMED);
    }

    #[test]
    fn an_answer_of_another_issuer_gives_no_code() {
        // RFC 9207 §2.4
        let mixed = get("/callback?code=c&state=right&iss=https%3A%2F%2Fevil.example");
        assert!(matches!(mixed, Ok(Err(OidcError::MixUp))), "{mixed:?}");
        let head =
            format!("GET /callback?code=c&state=right HTTP/1.1\r\nHost: {AUTHORITY}\r\n\r\n");
        let silent = judge(&head, AUTHORITY, &expected(true));
        assert!(matches!(silent, Ok(Err(OidcError::MixUp))), "{silent:?}");
    }

    #[test]
    fn errors_come_before_codes_and_nothing_is_no_code() {
        let refused =
            get("/callback?error=access_denied&error_description=no+way&code=c&state=right");
        assert!(
            matches!(&refused, Ok(Err(OidcError::Refused { code, told })) if code == "access_denied" && told == "no way"),
            "{refused:?}"
        );
        assert!(matches!(
            get("/callback?state=right"),
            Ok(Err(OidcError::Malformed(_)))
        ));
    }

    #[test]
    fn no_byte_of_an_answer_can_be_another_and_no_head_makes_it_panic() {
        let target = "/callback?code=c&state=right";
        let head = format!("GET {target} HTTP/1.1\r\nHost: {AUTHORITY}\r\n\r\n");
        let state = head.find("right").unwrap();
        for at in 0..head.len() {
            let _ = judge(&head[..at], AUTHORITY, &expected(true));
            for byte in [b'%', b'&', b'=', b'?', b' ', b'\0', b'x'] {
                let mut bytes = head.clone().into_bytes();
                bytes[at] = byte;
                let changed = String::from_utf8(bytes).unwrap();
                let judged = judge(&changed, AUTHORITY, &expected(false));
                if (state..state + 5).contains(&at) {
                    assert!(judged.is_err(), "{changed:?}: {judged:?}");
                }
            }
        }
    }

    #[test]
    fn the_right_answer_gives_its_code() {
        let code = get("/callback?iss=https%3A%2F%2Fissuer.example&code=a%2Bb&state=right");
        assert_eq!(code.unwrap().unwrap().reveal(), "a+b");
    }
}
