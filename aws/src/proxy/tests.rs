//! Tests of the parent module against proxies that refuse, say nothing or something else.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use http::Request;

use super::*;
use crate::http_client::{Answer, HttpClient, HttpError, Limits, Roots};

/// A proxy that answers each connection with this, and what it was asked.
fn proxy(answer: &'static [u8]) -> (SocketAddr, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (heads, asked) = channel();
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = connection.unwrap();
            let mut head = [0; 4096];
            let count = connection.read(&mut head).unwrap();
            let _ = heads.send(String::from_utf8_lossy(&head[..count]).into_owned());
            let _ = connection.write_all(answer);
            // Held open: a client without a deadline would wait for more.
            std::thread::spawn(move || connection.read(&mut [0; 1]));
        }
    });
    (address, asked)
}

async fn get(url: &str, proxy: &Proxy) -> Result<Answer, HttpError> {
    let limits = Limits {
        deadline: Duration::from_millis(2_000),
        max_body: 100,
    };
    let request = Request::get(url).body(Vec::new()).unwrap();
    let client = HttpClient::new(Roots::System, Some(proxy)).unwrap();
    client.send(request, limits).await
}

#[test]
fn what_is_no_http_proxy_is_refused_without_its_password() {
    for url in [
        "",
        "proxy.example.com",
        "https://proxy.example.com:443",
        "socks5://proxy.example.com:1080",
        "http://",
        "http://:3128",
        "http://u:secret@:3128",
        "http://u:secret@proxy.example.com:3128/path",
        "http://u:secret@proxy.example.com:3128/?query",
        "http://u:secret@proxy example.com",
        "http://u:secret@proxy.example.com:port",
    ] {
        let told = Proxy::new(url, &[]).unwrap_err().to_string();
        assert!(!told.contains("secret"), "{told}");
    }
    for entry in [
        "",
        "a b",
        "a,b",
        "http://a@b",
        "*.example.com",
        "example.com:8443",
        "[fd00::1]",
        "10.0.0.0/33",
        "example.com/8",
    ] {
        let told = Proxy::new("http://p:3128", &[entry.to_owned()]).unwrap_err();
        assert_eq!(told, InvalidProxy::Exception(entry.to_owned()));
    }
    let good = Proxy::new("http://u:secret@proxy.example.com:3128", &[]).unwrap();
    assert_eq!(good.to_string(), "proxy.example.com:3128");
    assert!(!format!("{good:?}").contains("secret"));
    assert_eq!(
        Proxy::new("http://[fd00::1]", &[]).unwrap().to_string(),
        "[fd00::1]:80"
    );
}

#[tokio::test]
async fn a_proxy_that_does_not_connect_is_named_and_says_nothing_about_the_server() {
    // H-18: what is unreachable may lead to a fallback; a proxy's refusal may not.
    for answer in [
        &b"HTTP/1.1 403 Forbidden\r\n\r\n"[..],
        b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nlocation: https://evil.example/\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    ] {
        let (address, asked) = proxy(answer);
        let proxy = Proxy::new(&format!("http://u:p%40ss@{address}"), &[]).unwrap();
        let error = get("https://sts.example.com/x?secret", &proxy)
            .await
            .unwrap_err();
        assert!(matches!(error, HttpError::Proxy(_)) && !error.is_unreachable());
        assert!(error.to_string().contains(&address.to_string()), "{error}");
        let head = asked.recv().unwrap();
        assert!(
            head.starts_with("CONNECT sts.example.com:443 HTTP/1.1\r\n"),
            "{head}"
        );
        // `u:p@ss`
        assert!(head.to_lowercase().contains("basic dtpwqhnz"), "{head}");
        assert!(!head.contains("secret"), "{head}");
    }
    let nobody = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let proxy = Proxy::new(&format!("http://{nobody}"), &[]).unwrap();
    let error = get("https://sts.example.com/", &proxy).await.unwrap_err();
    assert!(matches!(error, HttpError::Proxy(_)), "{error:?}");
}

#[tokio::test]
async fn a_proxy_that_says_nothing_meets_the_deadline() {
    let (address, _asked) = proxy(b"");
    let proxy = Proxy::new(&format!("http://{address}"), &[]).unwrap();
    let error = get("https://sts.example.com/", &proxy).await.unwrap_err();
    assert!(matches!(error, HttpError::TimedOut(_)), "{error:?}");
}

#[tokio::test]
async fn plain_http_and_the_hosts_of_no_proxy_are_reached_without_it() {
    let (address, asked) = proxy(b"HTTP/1.1 403 Forbidden\r\n\r\n");
    let except = ["127.0.0.0/8".to_owned(), "internal.example".to_owned()];
    let url = format!("http://{address}");
    let through = Proxy::new(&url, &except).unwrap();
    let (server, _) = self::proxy(b"HTTP/1.1 204 No Content\r\n\r\n");
    let plain = get(
        &format!("http://{server}/"),
        &Proxy::new(&url, &[]).unwrap(),
    )
    .await;
    assert_eq!(plain.unwrap().status, 204);
    let direct = get(&format!("https://{server}/"), &through)
        .await
        .unwrap_err();
    assert!(matches!(direct, HttpError::Tls(_)), "{direct:?}");
    assert!(asked.try_recv().is_err());
    // Not a name that only ends alike.
    let alike = get("https://notinternal.example/", &through)
        .await
        .unwrap_err();
    assert!(matches!(alike, HttpError::Proxy(_)), "{alike:?}");
    assert!(asked.recv().unwrap().contains("notinternal.example:443"));
}

#[test]
fn what_crosses_a_pipe_is_the_same_proxy_and_leads_to_the_same_hosts() {
    let except = ["internal.example", "10.0.0.0/8", "fd12::/16"].map(str::to_owned);
    let proxy = Proxy::new("http://u:secret@p.example:3128", &except).unwrap();
    let piped = serde_json::to_string(&proxy).unwrap();
    let read: Proxy = serde_json::from_str(&piped).unwrap();
    assert!(read == proxy);
    for (host, port, through) in [
        ("sts.amazonaws.com", 443, true),
        ("a.internal.example", 8443, false),
        ("notinternal.example", 443, true),
        ("10.1.2.3", 443, false),
        ("[fd00::1]", 443, true),
        ("[fd12::1]", 443, false),
        // No name at all: never past the proxy.
        ("a b", 443, true),
        ("u@10.1.2.3/", 443, true),
    ] {
        assert_eq!(read.leads_to(host, port), through, "{host}");
    }
    let wrong = piped.replace("http:", "socks5:");
    let told = serde_json::from_str::<Proxy>(&wrong).unwrap_err();
    assert!(!told.to_string().contains("secret"), "{told}");
}
