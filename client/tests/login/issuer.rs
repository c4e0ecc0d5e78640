//! A stand-in for an OpenID Connect issuer on loopback: authorization code with PKCE, device codes, refresh tokens that
//! are replaced at each use. It checks what a real one checks; its tokens carry no real signature.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use eic_login::oidc::Registration;
use eic_protocol::secret::Secret;

/// What this program is called there.
pub(crate) const CLIENT: &str = "https://ca.example";
/// In every token, so that a scan finds them.
pub(crate) const CANARY: &str = "cGVyc29uLWNhbmFyeQ";

/// How it behaves, and what it has seen.
#[derive(Default)]
pub(crate) struct State {
    /// Members of the discovery document that are others.
    pub(crate) document: BTreeMap<&'static str, Value>,
    /// Claims of its tokens that are others.
    pub(crate) claims: BTreeMap<&'static str, Value>,
    /// What follows the redirect address, in place of code and state.
    pub(crate) answer: Option<String>,
    /// Whether it says who it is in its answers (RFC 9207).
    pub(crate) names_itself: bool,
    /// Whether it gives refresh tokens, and takes them.
    pub(crate) refreshes: bool,
    /// What the device's code answers before the tokens.
    pub(crate) pending: Vec<&'static str>,
    /// In place of every answer to a POST.
    pub(crate) raw: Option<String>,
    /// Never answers the discovery document.
    pub(crate) silent: bool,
    /// The forms that came to the token endpoint.
    pub(crate) asked: Vec<BTreeMap<String, String>>,
    /// Its tokens, in order.
    pub(crate) given: Vec<String>,
    /// What it wants as client_secret, as some issuers do of installed programs, too.
    pub(crate) secret: Option<&'static str>,
    /// The nonces of sign-ins.
    pub(crate) nonces: Vec<String>,
    sign_in: Option<BTreeMap<String, String>>,
    polled: Option<Instant>,
    refresh: u32,
}

pub(crate) struct Issuer {
    pub(crate) url: String,
    state: Arc<Mutex<State>>,
}

/// An issuer's and a browser's only kind of answer here: status, location, body.
type Answer = (u16, Option<String>, String);

impl Issuer {
    pub(crate) async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(Mutex::new(State::default()));
        tokio::spawn(serve(listener, url.clone(), Arc::clone(&state)));
        Self { url, state }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(crate) fn registration(&self) -> Registration {
        Registration {
            issuer: self.url.parse().unwrap(),
            client_id: CLIENT.to_owned(),
            client_secret: self
                .state()
                .secret
                .map(|secret| Secret::new(secret.to_owned())),
            scopes: Vec::new(),
        }
    }
}

async fn serve(listener: TcpListener, url: String, state: Arc<Mutex<State>>) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(serve_one(stream, url.clone(), Arc::clone(&state)));
    }
}

async fn serve_one(mut stream: TcpStream, url: String, state: Arc<Mutex<State>>) {
    let Some((head, body)) = request(&mut stream).await else {
        return;
    };
    let mut words = head.split(' ');
    let (method, target) = (words.next().unwrap(), words.next().unwrap());
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    if path.starts_with("/.well-known/") && state.lock().unwrap().silent {
        tokio::time::sleep(Duration::from_secs(60)).await;
    }
    let (status, location, text) = {
        let mut state = state.lock().unwrap();
        match (method, path) {
            ("GET", "/.well-known/openid-configuration") => (200, None, document(&url, &state)),
            ("GET", "/authorize") => authorize(&url, fields(query), &mut state),
            ("POST", "/device") => device(&url, &fields(&body), &state),
            ("POST", "/token") => token(&url, fields(&body), &mut state),
            _ => (404, None, String::new()),
        }
    };
    let location = location.map_or_else(String::new, |to| format!("location: {to}\r\n"));
    let length = text.len();
    let answer = format!(
        "HTTP/1.1 {status} x\r\n{location}content-length: {length}\r\nconnection: close\r\n\r\n{text}"
    );
    let _ = stream.write_all(answer.as_bytes()).await;
}

async fn request(stream: &mut TcpStream) -> Option<(String, String)> {
    let mut bytes = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let lower = head.to_ascii_lowercase();
            let length = lower
                .lines()
                .find_map(|l| l.strip_prefix("content-length: "));
            if body.len() >= length.map_or(0, |l| l.parse().unwrap()) {
                return Some((head.to_owned(), body.to_owned()));
            }
        }
        let count = stream
            .read(&mut piece)
            .await
            .ok()
            .filter(|count| *count > 0)?;
        bytes.extend_from_slice(&piece[..count]);
    }
}

fn document(url: &str, state: &State) -> String {
    let mut document = json!({
        "issuer": url,
        "authorization_endpoint": format!("{url}/authorize"),
        "token_endpoint": format!("{url}/token"),
        "device_authorization_endpoint": format!("{url}/device"),
        "code_challenge_methods_supported": ["S256"],
        "scopes_supported": ["openid", "offline_access"],
        "authorization_response_iss_parameter_supported": state.names_itself,
    });
    for (name, value) in &state.document {
        document[*name] = value.clone();
    }
    document.to_string()
}

/// Somebody who is signed in already and agrees.
fn authorize(url: &str, asked: BTreeMap<String, String>, state: &mut State) -> Answer {
    let is = |name: &str, value: &str| assert_eq!(asked[name], value, "{name}");
    is("response_type", "code");
    is("client_id", CLIENT);
    is("scope", "openid offline_access");
    is("code_challenge_method", "S256");
    assert!(
        asked["redirect_uri"].starts_with("http://127.0.0.1:"),
        "{asked:?}"
    );
    assert!(!asked.contains_key("client_secret"), "{asked:?}");
    for secret in ["state", "code_challenge"] {
        assert_eq!(asked[secret].len(), 43, "{secret}");
    }
    assert!(asked["nonce"].starts_with("eic-v1-"), "{asked:?}");
    state.nonces.push(asked["nonce"].clone());
    let named = match state.names_itself {
        true => format!("&iss={}", url.replace(':', "%3A").replace('/', "%2F")),
        false => String::new(),
    };
    let usual = format!("code=the%2Bcode&state={}{named}", asked["state"]);
    let answer = state.answer.clone().unwrap_or(usual);
    let answer = answer.replace("STATE", &asked["state"]);
    let location = format!("{}?{answer}", asked["redirect_uri"]);
    state.sign_in = Some(asked);
    (302, Some(location), String::new())
}

fn device(url: &str, asked: &BTreeMap<String, String>, state: &State) -> Answer {
    assert_eq!(asked["client_id"], CLIENT);
    assert_eq!(asked.get("client_secret").map(String::as_str), state.secret);
    let body = json!({
        "device_code": "device-code", "user_code": "WDJB-MJHT", "verification_uri": format!("{url}/enter"),
        "verification_uri_complete": format!("{url}/enter?user_code=WDJB-MJHT"), "expires_in": 300, "interval": 1,
    });
    (200, None, body.to_string())
}

fn token(url: &str, asked: BTreeMap<String, String>, state: &mut State) -> Answer {
    state.asked.push(asked.clone());
    if let Some(raw) = &state.raw {
        let (status, body) = raw.split_once(' ').unwrap();
        let status = status.parse().unwrap();
        return (status, Some(format!("{url}/elsewhere")), body.to_owned());
    }
    assert_eq!(asked["client_id"], CLIENT);
    assert_eq!(asked.get("client_secret").map(String::as_str), state.secret);
    let refused = match asked["grant_type"].as_str() {
        "authorization_code" => by_code(&asked, state),
        "refresh_token" => by_refresh_token(&asked, state),
        "urn:ietf:params:oauth:grant-type:device_code" => by_device(&asked, state),
        other => panic!("{other}"),
    };
    match refused {
        Err(code) => (400, None, json!({ "error": code }).to_string()),
        Ok(nonce) => (200, None, tokens(url, nonce, state)),
    }
}

/// A code is good once, for who began the sign-in (RFC 6749 §4.1.3, RFC 7636 §4.6).
fn by_code(asked: &BTreeMap<String, String>, state: &mut State) -> Result<Value, &'static str> {
    let begun = state.sign_in.take().ok_or("invalid_grant")?;
    let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(&asked["code_verifier"]));
    let right = asked["code"] == "the+code"
        && asked["redirect_uri"] == begun["redirect_uri"]
        && challenge == begun["code_challenge"];
    let nonce = right.then(|| begun["nonce"].clone().into());
    nonce.ok_or("invalid_grant")
}

/// The last one only: whoever shows an older one has stolen it.
fn by_refresh_token(
    asked: &BTreeMap<String, String>,
    state: &State,
) -> Result<Value, &'static str> {
    let last = format!("{CANARY}.refresh.{}", state.refresh);
    let right = state.refreshes && asked["refresh_token"] == last;
    right.then_some(Value::Null).ok_or("invalid_grant")
}

/// RFC 8628 §3.5: who asks again within the interval is told to slow down.
fn by_device(asked: &BTreeMap<String, String>, state: &mut State) -> Result<Value, &'static str> {
    assert_eq!(asked["device_code"], "device-code");
    let before = state.polled.replace(Instant::now());
    if before.is_some_and(|before| before.elapsed() < Duration::from_millis(950)) {
        return Err("slow_down");
    }
    match state.pending.is_empty() {
        true => Ok(Value::Null),
        false => Err(state.pending.remove(0)),
    }
}

fn tokens(url: &str, nonce: Value, state: &mut State) -> String {
    let mut claims = json!({
        "iss": url, "aud": CLIENT, "sub": "alice", "exp": eic_login::clock::unix_now() + 300,
        "jti": state.given.len().to_string(),
    });
    if !nonce.is_null() {
        claims["nonce"] = nonce;
    }
    for (name, value) in &state.claims {
        claims[*name] = value.clone();
    }
    let token = format!("aA.{}.{CANARY}", URL_SAFE_NO_PAD.encode(claims.to_string()));
    state.given.push(token.clone());
    let mut answer = json!({ "id_token": token, "access_token": "x", "token_type": "Bearer" });
    if state.refreshes {
        state.refresh += 1;
        answer["refresh_token"] = format!("{CANARY}.refresh.{}", state.refresh).into();
    }
    answer.to_string()
}

fn fields(form: &str) -> BTreeMap<String, String> {
    let pairs = form.split('&').filter_map(|pair| pair.split_once('='));
    pairs
        .map(|(name, value)| (name.to_owned(), decoded(value)))
        .collect()
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digits = [rest.next().unwrap(), rest.next().unwrap()];
                u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap()
            }
            other => other,
        });
    }
    String::from_utf8(bytes).unwrap()
}

/// What a browser does with an address: its status line and head, and where it leads.
pub(crate) async fn get(
    url: &str,
    host: Option<&str>,
) -> std::io::Result<(String, Option<String>)> {
    let rest = url.strip_prefix("http://").unwrap();
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let mut stream = TcpStream::connect(authority).await?;
    let host = host.unwrap_or(authority);
    let head = format!("GET /{path} HTTP/1.1\r\nHost: {host}\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let location = answer
        .lines()
        .find_map(|line| line.strip_prefix("location: "));
    Ok((answer.clone(), location.map(str::to_owned)))
}
