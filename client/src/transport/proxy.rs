//! The web proxy for a tunnel's TLS connection: the configured one, else the one that the environment names, and the way
//! through it (RFC 9110 §9.3.6). Only tunnels ask here: no call that carries credentials reads these variables (H-02).

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, TcpStream, ToSocketAddrs as _};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use base64::Engine as _;
use eic_aws::proxy::Proxy as Configured;
use eic_protocol::secret::Secret;
use eic_protocol::text::printable;

use super::direct;

/// How long one address of the proxy or the endpoint may take.
const CONNECT: Duration = Duration::from_secs(5);
/// How long the proxy may take to connect, from the first byte sent to the last one of its answer.
const ANSWER: Duration = Duration::from_secs(10);
/// How long all of it may take: a name 10 s, addresses [`CONNECT`] and 2 s, the proxy [`ANSWER`].
const ALL: Duration = Duration::from_secs(30);
/// Longest answer of a proxy. Bytes.
const MAX_ANSWER: usize = 16 * 1024;

/// A proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proxy {
    host: String,
    port: u16,
    /// `user:password` in base64.
    authorization: Option<Secret<String>>,
}

/// The proxy for `host`, from variables that `lookup` gives: `https_proxy`, `HTTPS_PROXY`, `all_proxy`, `ALL_PROXY`
/// in this order, unless `no_proxy` or `NO_PROXY` names the host. `HTTP_PROXY` is for plain HTTP and not read.
///
/// # Errors
/// [`ProxyError::Invalid`].
pub fn from_lookup(
    host: &str,
    port: u16,
    lookup: impl Fn(&str) -> Option<String>,
) -> Result<Option<Proxy>, ProxyError> {
    let first = |names: &[&str]| {
        let mut set = names.iter().filter_map(|name| lookup(name));
        set.find(|value| !value.is_empty())
    };
    let Some(url) = first(&["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"]) else {
        return Ok(None);
    };
    let exceptions = first(&["no_proxy", "NO_PROXY"]).unwrap_or_default();
    if is_excepted(host, port, &exceptions) {
        return Ok(None);
    }
    Proxy::parse(&url).map(Some)
}

/// TCP to `host`, through the configured proxy; where none is configured, through that of the process's environment
/// where it names one.
///
/// # Errors
/// [`ProxyError`].
pub fn connect(
    host: &str,
    port: u16,
    configured: Option<&Configured>,
) -> Result<TcpStream, ProxyError> {
    let proxy = chosen(host, port, configured, |name| std::env::var(name).ok())?;
    let place = host.to_owned();
    within(ALL, host, move || match proxy {
        None => dial(&place, port),
        Some(proxy) => proxy.connect(&place, port, ANSWER),
    })
}

/// A configured proxy decides alone, also where it is not for `host`.
fn chosen(
    host: &str,
    port: u16,
    configured: Option<&Configured>,
    lookup: impl Fn(&str) -> Option<String>,
) -> Result<Option<Proxy>, ProxyError> {
    match configured {
        None => from_lookup(host, port, lookup),
        Some(proxy) if proxy.leads_to(host, port) => Proxy::parse(proxy.url().reveal()).map(Some),
        Some(_) => Ok(None),
    }
}

/// The system's resolver takes no deadline: it works on a thread of its own, which ends when it gives up.
fn within(
    deadline: Duration,
    host: &str,
    work: impl FnOnce() -> Result<TcpStream, ProxyError> + Send + 'static,
) -> Result<TcpStream, ProxyError> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || sender.send(work()));
    let done = receiver.recv_timeout(deadline);
    done.unwrap_or_else(|_| Err(ProxyError::TimedOut(printable(host))))
}

fn dial(host: &str, port: u16) -> Result<TcpStream, ProxyError> {
    let name = host.trim_start_matches('[').trim_end_matches(']');
    let addresses = (name, port)
        .to_socket_addrs()
        .map_err(|cause| ProxyError::Name {
            host: printable(host),
            cause,
        })?;
    let addresses: Vec<IpAddr> = addresses.map(|address| address.ip()).collect();
    let stream = direct::connect_within(&addresses, port, CONNECT)?;
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

impl Proxy {
    /// `http://[user[:password]@]host[:port]`; the scheme may be left out, as curl has it.
    fn parse(url: &str) -> Result<Self, ProxyError> {
        // The password is not repeated.
        let invalid = |why: &'static str| ProxyError::Invalid(why);
        let rest = match url.split_once("://") {
            None => url,
            Some(("http", rest)) => rest,
            Some(_) => return Err(invalid("only `http://` proxies are supported")),
        };
        let rest = rest.split('/').next().unwrap_or_default();
        let (user, place) = rest
            .rsplit_once('@')
            .map_or((None, rest), |(user, place)| (Some(user), place));
        let (host, port) = split_port(place);
        let port = port.map_or(Ok(80), str::parse);
        let port = port.map_err(|_| invalid("its port is not a number"))?;
        let plain = |b: u8| b.is_ascii_alphanumeric() || b".-_:[]".contains(&b);
        if host.is_empty() || !host.bytes().all(plain) {
            return Err(invalid("it names no host"));
        }
        let encode =
            |user: &str| base64::engine::general_purpose::STANDARD.encode(percent_decoded(user));
        Ok(Self {
            host: host.to_owned(),
            port,
            authorization: user.map(|user| Secret::new(encode(user))),
        })
    }

    fn connect(&self, host: &str, port: u16, answer: Duration) -> Result<TcpStream, ProxyError> {
        let place = format!("{}:{}", self.host, self.port);
        let failed = |what: String| ProxyError::Refused {
            proxy: place.clone(),
            what,
        };
        let mut stream = dial(&self.host, self.port)?;
        let broken = |e: io::Error| failed(e.to_string());
        let until = Instant::now() + answer;
        stream.set_write_timeout(Some(answer)).map_err(broken)?;
        stream
            .write_all(self.request(host, port).as_bytes())
            .map_err(broken)?;
        let head = read_head(&mut stream, until).map_err(broken)?;
        let line = head.lines().next().unwrap_or_default();
        if line
            .split(' ')
            .nth(1)
            .is_none_or(|status| !status.starts_with('2'))
        {
            return Err(failed(printable(line)));
        }
        stream.set_read_timeout(None).map_err(broken)?;
        stream.set_write_timeout(None).map_err(broken)?;
        Ok(stream)
    }

    fn request(&self, host: &str, port: u16) -> String {
        let authorization = self.authorization.as_ref().map_or_else(String::new, |a| {
            format!("Proxy-Authorization: Basic {}\r\n", a.reveal())
        });
        format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n{authorization}\r\n")
    }
}

/// Byte by byte: what follows the head belongs to the tunnel. The deadline is that of the whole head: a byte every few
/// seconds does not move it.
fn read_head(stream: &mut TcpStream, until: Instant) -> io::Result<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() >= MAX_ANSWER {
            return Err(io::Error::other("its answer is too long"));
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        stream.read_exact(&mut byte)?;
        head.extend_from_slice(&byte);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

/// `host:port`, `[v6]:port`, `host`, `[v6]`, `v6`.
fn split_port(place: &str) -> (&str, Option<&str>) {
    match place.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, Some(port)),
        _ => (place, None),
    }
}

fn percent_decoded(text: &str) -> Vec<u8> {
    let mut decoded = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let hex = tail.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        let byte = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match byte.filter(|_| *first == b'%') {
            Some(byte) => {
                decoded.push(byte);
                rest = tail.get(2..).unwrap_or_default();
            }
            None => {
                decoded.push(*first);
                rest = tail;
            }
        }
    }
    decoded
}

/// Whether a list of exceptions names the host: `*`; a domain for itself and all below it, with or without a dot
/// in front; an address; a network in CIDR form; each with a port or without.
fn is_excepted(host: &str, port: u16, list: &str) -> bool {
    let host = host.to_ascii_lowercase();
    let mut entries = list
        .split([',', ' '])
        .map(str::trim)
        .filter(|e| !e.is_empty());
    entries.any(|entry| names(&entry.to_ascii_lowercase(), &host, port))
}

fn names(entry: &str, host: &str, port: u16) -> bool {
    let (name, only_port) = split_port(entry);
    if only_port.is_some_and(|only| only.parse() != Ok(port)) {
        return false;
    }
    let bare = |text: &str| {
        text.trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned()
    };
    if let Ok(address) = bare(host).parse::<IpAddr>() {
        return name == "*" || network_holds(&bare(name), address);
    }
    let domain = name.trim_start_matches("*.").trim_start_matches('.');
    let below = host
        .strip_suffix(domain)
        .is_some_and(|front| front.ends_with('.'));
    name == "*" || (!domain.is_empty() && (host == domain || below))
}

fn network_holds(network: &str, address: IpAddr) -> bool {
    let (base, bits) = network
        .split_once('/')
        .map_or((network, None), |(base, bits)| {
            (base, bits.parse::<u32>().ok())
        });
    let shifted =
        |value: u128, width: u32| value.checked_shr(width - bits.unwrap_or(width).min(width));
    match (base.parse(), address) {
        (Ok(IpAddr::V4(base)), IpAddr::V4(address)) => {
            shifted(u32::from(base).into(), 32) == shifted(u32::from(address).into(), 32)
        }
        (Ok(IpAddr::V6(base)), IpAddr::V6(address)) => {
            shifted(base.into(), 128).unwrap_or(0) == shifted(address.into(), 128).unwrap_or(0)
        }
        _ => false,
    }
}

/// The host cannot be reached, or not through the proxy.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// The proxy's URL.
    #[error("the proxy that the configuration or HTTPS_PROXY names cannot be used: {0}")]
    Invalid(&'static str),
    /// A name.
    #[error("`{host}` cannot be resolved: {cause}")]
    Name {
        /// The host.
        host: String,
        /// Why not.
        cause: io::Error,
    },
    /// All of it together.
    #[error("`{0}` was not reached within 30 s: is a name server or the proxy silent?")]
    TimedOut(String),
    /// No TCP connection.
    #[error(transparent)]
    NotReached(#[from] direct::NotReached),
    /// The proxy does not connect.
    #[error("the proxy `{proxy}` does not connect: {what}")]
    Refused {
        /// The proxy, without its password.
        proxy: String,
        /// Its words.
        what: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(variables: &[(&str, &str)], host: &str) -> Option<Proxy> {
        let lookup = |name: &str| {
            let set = variables.iter().find(|(n, _)| *n == name);
            set.map(|(_, value)| (*value).to_owned())
        };
        from_lookup(host, 443, lookup).unwrap()
    }

    #[test]
    fn hosts_that_no_proxy_names_are_reached_without_one() {
        for (list, host, excepted) in [
            ("*", "a.example.com", true),
            ("example.com", "a.example.com", true),
            (".example.com", "a.example.com", true),
            ("*.example.com", "a.example.com", true),
            ("EXAMPLE.com", "a.Example.COM", true),
            ("x.org, example.com:443", "example.com", true),
            ("example.com:8443", "example.com", false),
            // A substring test would take these two.
            ("example.com", "badexample.com", false),
            ("ample.com", "a.example.com", false),
            ("amazonaws", "x.amazonaws.com", false),
            ("10.0.0.0/8", "10.1.2.3", true),
            ("10.0.0.0/8", "11.1.2.3", false),
            ("10.0.0.0/0", "11.1.2.3", true),
            ("10.1.2.3", "10.1.2.3", true),
            ("fd00::/8", "[fd12::1]", true),
            ("fd00::/8", "[fe12::1]", false),
            ("", "a.example.com", false),
            (" , ", "a.example.com", false),
            (".", "a.example.com", false),
        ] {
            let variables = [("HTTPS_PROXY", "http://p:3128"), ("NO_PROXY", list)];
            assert_eq!(
                found(&variables, host).is_none(),
                excepted,
                "{list:?} {host}"
            );
        }
    }

    #[test]
    fn a_configured_proxy_counts_and_those_of_the_environment_do_not() {
        let environment = |name: &str| (name == "HTTPS_PROXY").then(|| "http://other:1".to_owned());
        let except = ["plain.example".to_owned()];
        let configured = Configured::new("http://u:p@named.example:3128", &except).unwrap();
        let host_of = |configured, host| {
            let chosen = chosen(host, 443, configured, environment).unwrap();
            chosen.map(|proxy| proxy.host)
        };
        let through = host_of(Some(&configured), "eice-1.example");
        assert_eq!(through.as_deref(), Some("named.example"));
        assert_eq!(host_of(Some(&configured), "a.plain.example"), None);
        let other = host_of(None, "a.plain.example");
        assert_eq!(other.as_deref(), Some("other"));
    }

    #[test]
    fn the_variable_for_plain_http_is_not_used_for_tls() {
        assert_eq!(found(&[("HTTP_PROXY", "http://p:1")], "h"), None);
        let both = [
            ("HTTPS_PROXY", "http://upper:1"),
            ("https_proxy", "lower:2"),
        ];
        let proxy = found(&both, "h").unwrap();
        assert_eq!((proxy.host.as_str(), proxy.port), ("lower", 2));
    }

    #[test]
    fn a_proxy_that_answers_a_byte_at_a_time_has_no_more_time_than_others() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let trickling = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            while stream.write_all(b"x").is_ok() {
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        let started = Instant::now();
        let proxy = Proxy::parse(&format!("http://127.0.0.1:{port}")).unwrap();
        let refused = proxy.connect("h", 443, Duration::from_millis(300));
        assert!(matches!(refused, Err(ProxyError::Refused { .. })));
        assert!(started.elapsed() < Duration::from_secs(10));
        trickling.join().unwrap();
    }

    #[test]
    fn what_never_answers_ends_at_the_deadline() {
        let (end, ended) = channel::<()>();
        let silent = move || {
            let _ = ended.recv();
            Err(ProxyError::Invalid("late"))
        };
        let refused = within(Duration::from_millis(50), "h", silent);
        assert!(matches!(refused, Err(ProxyError::TimedOut(_))));
        drop(end);
    }

    #[test]
    fn proxies_that_cannot_be_used_are_refused_without_their_password() {
        for bad in [
            "socks5://u:canary@p:1",
            "http://u:canary@",
            "http://u:canary@p:x",
            "http://u:canary@p q",
        ] {
            let told = Proxy::parse(bad).unwrap_err().to_string();
            assert!(!told.contains("canary"), "{told}");
        }
        let proxy = Proxy::parse("http://u:c%40nary@[::1]:3128/").unwrap();
        assert!(!format!("{proxy:?}").contains("nary"));
        assert!(proxy.request("h", 443).contains("Basic dTpjQG5hcnk=\r\n"));
        assert_eq!((proxy.host.as_str(), proxy.port), ("[::1]", 3128));
    }
}
