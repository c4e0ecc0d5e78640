//! HTTPS with a server that is not whom the configuration means: nothing is asked, the reason is told.

use std::process::{Command, Stdio};

use crate::refused::{agent_pid, resident};
use crate::sandbox::{Running, wait_until};
use crate::station::Station;

/// A server for `name` whose certificate ends at `ends` (a year), by a root of its own; the root's PEM.
fn certificate(name: &str, ends: i32) -> (String, String) {
    let root_key = rcgen::KeyPair::generate().unwrap();
    let mut root = rcgen::CertificateParams::new(Vec::new()).unwrap();
    root.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let root_pem = root.self_signed(&root_key).unwrap().pem();
    let issuer = rcgen::Issuer::new(root, root_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let mut leaf = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
    leaf.not_before = rcgen::date_time_ymd(2020, 1, 1);
    leaf.not_after = rcgen::date_time_ymd(ends, 1, 1);
    let leaf = leaf.signed_by(&key, &issuer).unwrap().pem();
    (root_pem, leaf + &key.serialize_pem())
}

/// Serves the published folder of the station over HTTPS; `None` (with the reason) where there is no python3.
fn server(station: &Station, pem: &str) -> Option<(Running, u16)> {
    if !std::path::Path::new("/usr/bin/python3").exists() {
        eprintln!("skipped: no python3");
        return None;
    }
    station.host.write("run/tls.pem", pem);
    let port_file = station.host.path("run/tls.port");
    let _ = std::fs::remove_file(&port_file);
    let script = "import http.server,ssl,sys,os\nc=ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)\nc.load_cert_chain(sys.argv[1])\nos.chdir(sys.argv[2])\ns=http.server.ThreadingHTTPServer(('127.0.0.1',0),http.server.SimpleHTTPRequestHandler)\ns.socket=c.wrap_socket(s.socket,server_side=True)\nopen(sys.argv[3]+'.new','w').write(str(s.server_address[1]))\nos.rename(sys.argv[3]+'.new',sys.argv[3])\ns.serve_forever()\n";
    let child = Command::new("/usr/bin/python3")
        .args(["-c", script])
        .args([
            station.host.path("run/tls.pem"),
            station.host.path("etc/published"),
        ])
        .arg(&port_file)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let running = Running(child);
    wait_until("the TLS server", || port_file.exists());
    let port = std::fs::read_to_string(&port_file)
        .unwrap()
        .parse()
        .unwrap();
    Some((running, port))
}

/// A host that fetches from `name` at the server's port and trusts `root`.
fn fetching(station: &Station, name: &str, port: u16, root: &str) -> Running {
    station.host.write("etc/eic/tls-roots.pem", root);
    let more = format!(
        "trust_from = \"https://{name}:{port}/\"\ntls_roots = \"/etc/eic/tls-roots.pem\"\n"
    );
    station.configure(|toml| {
        let kept: Vec<&str> = toml
            .lines()
            .filter(|line| !line.starts_with("trust_from") && !line.starts_with("tls_roots"))
            .collect();
        format!("{}\n{more}", kept.join("\n"))
    });
    station.service()
}

fn publish(station: &Station) {
    let mut response = station.authority.response();
    let view = response.view.take().unwrap();
    let host = "etc/published/hosts/i-0123456789abcdef0.json";
    station.host.write(host, serde_json::to_vec(&view).unwrap());
    let bundle = serde_json::to_vec(&response).unwrap();
    station
        .host
        .write("etc/published/trust-bundle.json", bundle);
}

#[test]
fn servers_of_another_name_root_or_time_are_refused_and_the_right_one_is_not() {
    let Some(station) = Station::new("") else {
        return;
    };
    publish(&station);
    let (root, right) = certificate("localhost", 2100);
    let (foreign_root, _) = certificate("localhost", 2100);
    let (old_root, old) = certificate("localhost", 2021);
    for (what, name, trusted, pem) in [
        ("another name", "127.0.0.1", &root, &right),
        ("another root", "localhost", &foreign_root, &right),
        ("expired", "localhost", &old_root, &old),
    ] {
        let Some((_server, port)) = server(&station, pem) else {
            return;
        };
        let _service = fetching(&station, name, port, trusted);
        station.wait_for_problem("trust", "ertificate");
        assert!(
            station
                .status()
                .installed
                .is_some_and(|i| i.bundle_sequence.is_none()),
            "{what}"
        );
        std::fs::remove_file(station.host.path("run/eic/status.json")).unwrap();
    }
    let Some((_server, port)) = server(&station, &right) else {
        return;
    };
    // With the system's roots, a hundred and more: they do not know this one, and they have to fit in.
    let system = station.host.read("etc/ssl/certs/ca-certificates.crt");
    let service = fetching(&station, "localhost", port, &system);
    station.wait_for_problem("trust", "ertificate");
    let (own, all) = resident(agent_pid(service.0.id()));
    println!("with the system's roots: {own} KiB of its own, {all} KiB with its program");
    assert!(own <= 4 * 1024, "{own} KiB");
    drop(service);
    let _service = fetching(&station, "localhost", port, &root);
    station.wait_for_sequence(10);
}
