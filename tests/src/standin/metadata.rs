//! The instance metadata service (IMDSv2) of one host, with Instance Connect's part of it.
//!
//! Paths and shapes are those that the official host scripts ask for. Role credentials and the identity document are
//! not here.

use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{Method, Response};
use hyper::body::Bytes;
use tokio::task::AbortHandle;

use crate::aws::DOMAIN;
use crate::error::{Context, Result};
use crate::host::Instance;
use crate::pki::{Record, SignerChain};
use crate::room::Room;
use crate::standin::answer::{answer, dripping};
use crate::standin::prepared::Prepared;
use crate::standin::{Runtime, Shared, Standin, locked};

/// The addresses of the service on every instance.
const ADDRESSES: [SocketAddr; 2] = [
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)), 80),
    SocketAddr::new(
        std::net::IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
        80,
    ),
];

const TTL_HEADER: &str = "x-aws-ec2-metadata-token-ttl-seconds";
const TOKEN_HEADER: &str = "x-aws-ec2-metadata-token";

/// AWS's longest life of a token: six hours.
const LONGEST_TTL: u64 = 21_600;

/// How long a silent service is silent: longer than any agent's patience.
const SILENCE: Duration = Duration::from_secs(600);

/// One way for the service to be wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MetadataFault {
    /// It accepts connections and says nothing.
    Silent,
    /// The right answer, one byte of its body each interval.
    Drip(Duration),
    /// The right body under a wrong status, whatever was asked and by whichever token.
    Status(u16),
    /// 302 to this location.
    Redirect(String),
    /// The right answer with this many spaces behind it.
    Oversized(usize),
    /// Key records with one bit of their signature flipped.
    WrongSignature,
}

/// The metadata service of one host.
#[derive(Debug)]
pub struct Metadata {
    service: Arc<Service>,
    listeners: Vec<AbortHandle>,
}

#[derive(Debug)]
struct Service {
    shared: Arc<Shared>,
    instance: Instance,
    prepared: Mutex<Arc<Prepared>>,
    /// Token → the unix second when it ends.
    tokens: Mutex<HashMap<String, u64>>,
    /// By path below `/latest/`; the longest matching prefix counts.
    faults: Mutex<HashMap<String, MetadataFault>>,
    /// Answers that a test gave, by path below `/latest/`; `None` is 404.
    answers: Mutex<HashMap<String, Option<String>>>,
    seen: Mutex<Vec<String>>,
}

impl Metadata {
    /// Starts it on the host's loopback interface.
    pub(crate) fn start(
        room: &Room,
        standin: &Standin,
        instance: &Instance,
        chain: Arc<SignerChain>,
    ) -> Result<Metadata> {
        for address in addresses() {
            room.ip(&format!(
                "addr add {}{}\n",
                address.ip(),
                if address.is_ipv4() {
                    "/32 dev lo"
                } else {
                    "/128 dev lo nodad"
                }
            ))?;
        }
        let service = Service {
            shared: Arc::clone(&standin.shared),
            instance: instance.clone(),
            prepared: Mutex::new(Arc::new(Prepared::new(chain))),
            tokens: Mutex::default(),
            faults: Mutex::default(),
            answers: Mutex::default(),
            seen: Mutex::default(),
        };
        let mut metadata = Metadata {
            service: Arc::new(service),
            listeners: Vec::new(),
        };
        metadata.listen(room, &standin.runtime)?;
        Ok(metadata)
    }

    /// Takes connections (again).
    pub(crate) fn listen(&mut self, room: &Room, runtime: &Runtime) -> Result<()> {
        self.refuse();
        for address in addresses() {
            let listener = room.in_network(|| std::net::TcpListener::bind(address))?;
            let listener = listener.context(|| format!("listen on {address}"))?;
            let router = Router::new()
                .fallback(handle)
                .with_state(Arc::clone(&self.service));
            self.listeners.push(runtime.serve(listener, router)?);
        }
        Ok(())
    }

    /// Refuses connections from now on.
    pub(crate) fn refuse(&mut self) {
        self.listeners
            .drain(..)
            .for_each(|listener| listener.abort());
    }

    /// Makes the answers of every path that begins with `prefix` wrong. Paths are those below `/latest/`, such as
    /// `api/token` or `meta-data/managed-ssh-keys/`; the empty prefix is all.
    pub fn set_fault(&self, prefix: &str, fault: MetadataFault) {
        locked(&self.service.faults).insert(prefix.to_owned(), fault);
    }

    /// Makes everything right again.
    pub fn clear(&self) {
        locked(&self.service.faults).clear();
        locked(&self.service.answers).clear();
    }

    /// Sets the text of a path below `/latest/`, or takes the path away.
    pub fn set_answer(&self, path: &str, text: Option<&str>) {
        locked(&self.service.answers).insert(
            path.trim_end_matches('/').to_owned(),
            text.map(str::to_owned),
        );
    }

    /// Signs with another chain from now on.
    pub fn set_chain(&self, chain: SignerChain) {
        *locked(&self.service.prepared) = Arc::new(Prepared::new(Arc::new(chain)));
    }

    /// Every request so far: method, path and whether it had a token that counts.
    pub fn requests(&self) -> Vec<String> {
        locked(&self.service.seen).clone()
    }
}

async fn handle(State(service): State<Arc<Service>>, request: Request) -> Response<Body> {
    let path = request
        .uri()
        .path()
        .strip_prefix("/latest/")
        .unwrap_or_default()
        .to_owned();
    let right = service.answer(&request, path.trim_end_matches('/'));
    let status = right.status().as_u16();
    locked(&service.seen).push(format!(
        "{} {} {status}",
        request.method(),
        request.uri().path()
    ));
    match service.fault(&path) {
        Some(fault) => {
            let is_head = request.method() == Method::HEAD;
            faulty(&service, is_head, &path, right, fault).await
        }
        None => right.map(Body::from),
    }
}

async fn faulty(
    service: &Service,
    is_head: bool,
    path: &str,
    right: Response<Bytes>,
    fault: MetadataFault,
) -> Response<Body> {
    match fault {
        MetadataFault::Silent => {
            tokio::time::sleep(SILENCE).await;
            right.map(Body::from)
        }
        MetadataFault::Drip(interval) => right.map(|body| dripping(body, interval)),
        MetadataFault::Status(status) => {
            let body = service.text(path.trim_end_matches('/')).unwrap_or_default();
            let body = if is_head { String::new() } else { body };
            answer(status, "text/plain", body).map(Body::from)
        }
        MetadataFault::Redirect(location) => {
            let mut redirect = answer(302, "text/plain", "");
            if let Ok(value) = location.parse() {
                redirect.headers_mut().insert("location", value);
            }
            redirect.map(Body::from)
        }
        MetadataFault::Oversized(extra) => {
            right.map(|body| Body::from([body.as_ref(), &vec![b' '; extra]].concat()))
        }
        MetadataFault::WrongSignature => right.map(Body::from), // already in the records
    }
}

impl Service {
    fn answer(&self, request: &Request, path: &str) -> Response<Bytes> {
        if request.method() == Method::PUT && path == "api/token" {
            return self.token(request);
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return answer(405, "text/plain", "");
        }
        if !self.has_token(request) {
            return answer(401, "text/plain", "");
        }
        match self.text(path) {
            Some(_) if request.method() == Method::HEAD => answer(200, "text/plain", ""),
            Some(text) => answer(200, "text/plain", text),
            None => answer(404, "text/plain", ""),
        }
    }

    /// A new token. AWS refuses requests that a proxy forwarded, and lives outside 1 s to 6 h.
    fn token(&self, request: &Request) -> Response<Bytes> {
        if request.headers().contains_key("x-forwarded-for") {
            return answer(403, "text/plain", "");
        }
        let ttl = header(request, TTL_HEADER).and_then(|text| text.parse::<u64>().ok());
        let Some(ttl) = ttl.filter(|ttl| (1..=LONGEST_TTL).contains(ttl)) else {
            return answer(400, "text/plain", "");
        };
        let mut random = [0u8; 40];
        if getrandom::fill(&mut random).is_err() {
            return answer(500, "text/plain", "");
        }
        let token = STANDARD.encode(random);
        locked(&self.tokens).insert(token.clone(), self.shared.clock.now() + ttl);
        let mut given = answer(200, "text/plain", token);
        given.headers_mut().insert(TTL_HEADER, ttl.into());
        given
    }

    fn has_token(&self, request: &Request) -> bool {
        let tokens = locked(&self.tokens);
        header(request, TOKEN_HEADER)
            .and_then(|token| tokens.get(token))
            .is_some_and(|end| *end > self.shared.clock.now())
    }

    fn fault(&self, path: &str) -> Option<MetadataFault> {
        let faults = locked(&self.faults);
        let matching = faults
            .iter()
            .filter(|(prefix, _)| path.starts_with(prefix.as_str()));
        matching
            .max_by_key(|(prefix, _)| prefix.len())
            .map(|(_, fault)| fault.clone())
    }

    /// The text at a path below `/latest/`, without its trailing slash.
    fn text(&self, path: &str) -> Option<String> {
        if let Some(given) = locked(&self.answers).get(path) {
            return given.clone();
        }
        let path = path.strip_prefix("meta-data/")?;
        match path {
            "instance-id" => Some(self.instance.id.clone()),
            "placement/availability-zone" => Some(self.instance.availability_zone.clone()),
            "placement/region" => Some(self.instance.region.clone()),
            "local-ipv4" => Some(self.instance.private_ip.to_string()),
            "services/domain" => Some(DOMAIN.to_owned()),
            "services/partition" => Some("aws".to_owned()),
            _ => self.managed_ssh_keys(path.strip_prefix("managed-ssh-keys/")?),
        }
    }

    fn managed_ssh_keys(&self, path: &str) -> Option<String> {
        let prepared = Arc::clone(&locked(&self.prepared));
        if let Some(user) = path.strip_prefix("active-keys/") {
            return self.records(&prepared, &percent_decoded(user));
        }
        let staples = || prepared.staples(self.shared.clock.now()).ok();
        match path {
            "signer-cert" => Some(prepared.pem()),
            "signer-ocsp" => Some(
                staples()?
                    .into_iter()
                    .map(|(name, _)| name)
                    .collect::<Vec<_>>()
                    .join("\n"),
            ),
            _ => {
                let name = path.strip_prefix("signer-ocsp/")?;
                staples()?
                    .into_iter()
                    .find(|(staple, _)| staple == name)
                    .map(|(_, der)| STANDARD.encode(der))
            }
        }
    }

    /// The signed records of a user's keys; 404 when there is none.
    fn records(&self, prepared: &Prepared, user: &str) -> Option<String> {
        let keys = self.shared.active_keys(&self.instance.id, user);
        let wrong = self.fault("meta-data/managed-ssh-keys/active-keys/")
            == Some(MetadataFault::WrongSignature);
        let signed = keys.iter().map(|key| {
            let record = Record::new(&key.key, &key.instance_id, key.expires)
                .asked_by(&key.caller, &key.request_id);
            let mut signature = prepared.signature(&record)?;
            if let (true, Some(last)) = (wrong, signature.last_mut()) {
                *last ^= 1;
            }
            Ok(record.with_signature(&signature))
        });
        let records: String = signed.collect::<Result<_>>().ok()?;
        (!records.is_empty()).then_some(records)
    }
}

/// Both addresses, or the first alone on a machine without IPv6.
fn addresses() -> impl Iterator<Item = SocketAddr> {
    let has_ipv6 = std::path::Path::new("/proc/net/if_inet6").exists();
    ADDRESSES
        .into_iter()
        .filter(move |address| address.is_ipv4() || has_ipv6)
}

fn header<'a>(request: &'a Request, name: &str) -> Option<&'a str> {
    request.headers().get(name)?.to_str().ok()
}

/// `%61` is `a`; anything that is not an escape stays.
fn percent_decoded(text: &str) -> String {
    let mut out = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let escape = tail
            .get(..2)
            .filter(|_| *first == b'%')
            .and_then(|digits| hex::decode(digits).ok());
        match escape {
            Some(byte) => {
                out.extend(byte);
                rest = tail.get(2..).unwrap_or_default();
            }
            None => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}
