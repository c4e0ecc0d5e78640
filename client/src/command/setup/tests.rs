//! Setup against a stand-in CA: what is pinned, what is refused, what is written and taken back.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use eic_protocol::api::discovery::SessionMode;
use eic_protocol::secret::Secret;
use eic_protocol::sshsig::Namespace;
use eic_protocol::trust::root::Root;
use eic_protocol::version::VersionRange;

use super::*;
use crate::testing::{enveloped, public};

/// A discovery document whose root names key `named` and is signed by key `signed`.
fn discovery(named: u8, signed: u8) -> Discovery {
    discovery_of(1, named, signed)
}

fn discovery_of(version: u64, named: u8, signed: u8) -> Discovery {
    let root = Root {
        version,
        issued: 1,
        root_keys: vec![public(named)],
        threshold: 1,
        bundle_keys: Vec::new(),
        user_cas: Vec::new(),
        host_cas: Vec::new(),
    };
    Discovery {
        server: "stub".to_owned(),
        protocol: VersionRange::OURS,
        auth: Vec::new(),
        root: enveloped(Namespace::Root, &root, signed),
        sessions: SessionMode::On,
        bundle_sequence: None,
    }
}

/// Serves `answer` to every request.
fn server(answer: Vec<u8>) -> Audience {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(&answer);
        }
    });
    url.parse().unwrap()
}

fn serving(discovery: &Discovery) -> Audience {
    let body = serde_json::to_vec(discovery).unwrap();
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    server([head.into_bytes(), body].concat())
}

fn arguments(fingerprint: &[String]) -> Arguments {
    Arguments {
        url: None,
        fingerprint: fingerprint.to_vec(),
        patterns: Vec::new(),
        ca_file: None,
        issuer: None,
        client_id: None,
        proxy: None,
        no_ca: false,
        undo: false,
        yes: true,
    }
}

struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(
            dir.path(),
            std::os::unix::fs::PermissionsExt::from_mode(0o755),
        )
        .unwrap();
        Self(dir)
    }

    fn paths(&self) -> Paths {
        let home = self.0.path().to_path_buf();
        Paths::from_lookup(|name| (name == "HOME").then(|| home.clone().into())).unwrap()
    }

    /// Every file with its bytes, and every folder.
    fn files(&self) -> std::collections::BTreeMap<PathBuf, Vec<u8>> {
        let (mut found, mut folders) = (
            std::collections::BTreeMap::new(),
            vec![self.0.path().to_path_buf()],
        );
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap().flatten() {
                match entry.file_type().unwrap().is_dir() {
                    true => {
                        found.insert(entry.path(), Vec::new());
                        folders.push(entry.path());
                    }
                    false => drop(found.insert(entry.path(), std::fs::read(entry.path()).unwrap())),
                }
            }
        }
        found
    }
}

/// Of a CA that is not configured yet.
fn pin_new(url: &Audience, arguments: &Arguments) -> Result<Pinned, Failure> {
    super::pin(url, arguments, &Home::new().paths(), &Config::default())
}

/// Of the CA that is configured.
fn pin_again(home: &Home, url: &Audience, arguments: &Arguments) -> Result<Pinned, Failure> {
    let before = Config::load(&home.paths()).unwrap();
    let pinned = super::pin(url, arguments, &home.paths(), &before)?;
    pinned.after(&home.paths())
}

fn set_up(home: &Home, pinned: Option<Pinned>, patterns: &[&str]) -> Result<(), Failure> {
    set_up_with(home, pinned, patterns, None)
}

fn set_up_with(
    home: &Home,
    pinned: Option<Pinned>,
    patterns: &[&str],
    id_token: Option<IdTokenConfig>,
) -> Result<(), Failure> {
    let arguments = Arguments {
        patterns: patterns.iter().map(|p| (*p).to_owned()).collect(),
        ..arguments(&[])
    };
    let plan = Plan::make(
        &home.paths(),
        std::path::Path::new("/usr/bin/eic-login"),
        pinned,
        &arguments,
        id_token,
    )?;
    plan.carry_out(&home.paths(), true)
}

#[test]
fn a_ca_without_the_pinned_key_is_refused() {
    let right = vec![public(1).fingerprint()];
    for discovery in [discovery(2, 2), discovery(1, 2), discovery(2, 1)] {
        let failure = pin_new(&serving(&discovery), &arguments(&right)).unwrap_err();
        assert_eq!(failure.code, exit_code::UNTRUSTED, "{failure:?}");
    }
}

#[test]
fn an_issuer_is_written_and_kept_by_the_next_setup() {
    let home = Home::new();
    let right = vec![public(1).fingerprint()];
    let pinned = || pin_new(&serving(&discovery(1, 1)), &arguments(&right)).unwrap();
    let bad = Arguments {
        issuer: "https://issuer.example".parse().ok(),
        client_id: Some(String::new()),
        ..arguments(&right)
    };
    assert!(
        bad.id_token(None)
            .unwrap_err()
            .message
            .contains("client_id")
    );
    let client_id = Some("0oa1".to_owned());
    let good = Arguments { client_id, ..bad };
    set_up_with(&home, Some(pinned()), &[], good.id_token(None).unwrap()).unwrap();
    set_up(&home, Some(pinned()), &[]).unwrap();
    let before = Config::load(&home.paths()).unwrap().id_token.unwrap();
    assert_eq!(Some(&before), good.id_token(None).unwrap().as_ref());
    // What was written by hand beside the same issuer stays with it.
    let written = IdTokenConfig {
        client_secret: Some(Secret::new("not-secret".to_owned())),
        scopes: vec!["groups".to_owned()],
        ..before
    };
    let client_id = None;
    let same = Arguments { client_id, ..good };
    let kept = same.id_token(Some(&written)).unwrap().unwrap();
    assert!(kept == written && lost_keys(Some(&written), Some(&kept)).is_empty());
    let client_id = Some("other".to_owned());
    let renamed = Arguments { client_id, ..same };
    let kept = renamed.id_token(Some(&written)).unwrap().unwrap();
    assert_eq!(kept.client_id.as_deref(), Some("other"));
    assert_eq!(kept.scopes, written.scopes);
}

#[test]
fn what_another_issuer_takes_away_is_said_and_the_secret_is_not_shown_to_it() {
    let home = Home::new();
    let first = IdTokenConfig {
        issuer: "https://issuer.example".parse().ok(),
        client_id: Some("0oa1".to_owned()),
        client_secret: Some(Secret::new("not-secret".to_owned())),
        ..IdTokenConfig::default()
    };
    set_up_with(&home, None, &[], Some(first.clone())).unwrap();
    let other = Arguments {
        issuer: "https://other.example".parse().ok(),
        ..arguments(&[])
    };
    let second = other.id_token(Some(&first)).unwrap();
    let program = std::path::Path::new("/usr/bin/eic-login");
    let plan = Plan::make(&home.paths(), program, None, &arguments(&[]), second).unwrap();
    let shown = plan.shown(&home.paths());
    for name in ["client_id", "client_secret"] {
        let line = format!("`{name}` in [id_token] is removed");
        assert!(shown.contains(&line), "{shown}");
    }
    assert!(
        !shown.contains("not-secret") && !shown.contains("`scopes`"),
        "{shown}"
    );
}

#[test]
fn a_proxy_is_kept_by_the_next_setup_and_shown_without_its_password() {
    let home = Home::new();
    files::private_dir(&home.paths().config_dir).unwrap();
    let before = "proxy = \"http://u:canary@p:3128\"\nno_proxy = [\"ca.example\"]\n";
    std::fs::write(home.paths().config_file(), before).unwrap();
    let program = std::path::Path::new("/usr/bin/eic-login");
    let planned = |proxy: Option<&str>| {
        let arguments = Arguments {
            patterns: vec!["web-*".to_owned()],
            proxy: proxy.map(str::to_owned),
            ..arguments(&[])
        };
        Plan::make(&home.paths(), program, None, &arguments, None).unwrap()
    };
    let plan = planned(None);
    let shown = plan.shown(&home.paths());
    assert!(shown.contains("http://***@p:3128"), "{shown}");
    assert!(!shown.contains("canary"), "{shown}");
    plan.carry_out(&home.paths(), true).unwrap();
    let kept = Config::load(&home.paths()).unwrap();
    assert!(plan.config_text.contains("u:canary@p"));
    assert_eq!(kept.proxy().unwrap().unwrap().to_string(), "p:3128");
    assert_eq!(kept.no_proxy, ["ca.example"]);
    planned(Some("http://q:3128"))
        .carry_out(&home.paths(), true)
        .unwrap();
    let other = Config::load(&home.paths()).unwrap();
    assert_eq!(other.proxy().unwrap().unwrap().to_string(), "q:3128");
    assert_eq!(other.no_proxy, ["ca.example"]);
    assert!(parse_proxy("socks5://u:canary@p:1").is_err());
}

#[test]
fn without_a_terminal_a_fingerprint_is_demanded() {
    let failure = pin_new(&serving(&discovery(1, 1)), &arguments(&[])).unwrap_err();
    assert!(
        failure.code == exit_code::UNTRUSTED && failure.message.contains("--fingerprint"),
        "{failure:?}"
    );
}

#[test]
fn redirects_errors_and_foreign_answers_are_refused() {
    // H-02
    for answer in [
        "HTTP/1.1 302 Found\r\nlocation: https://evil.example/\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}",
        "HTTP/1.1 500 x\r\ncontent-length: 0\r\n\r\n",
    ] {
        assert!(
            pin_new(
                &server(answer.as_bytes().to_vec()),
                &arguments(&[public(1).fingerprint()])
            )
            .is_err(),
            "{answer}"
        );
    }
}

#[test]
fn malformed_fingerprints_are_refused() {
    for bad in [
        "",
        "SHA256:",
        "MD5:aa",
        "SHA256:short",
        &public(1).fingerprint()[..49],
        &format!("{}=", public(1).fingerprint()),
    ] {
        assert!(parse_fingerprint(bad).is_err(), "{bad:?}");
    }
    assert!(parse_fingerprint(&public(1).fingerprint()).is_ok());
}

#[test]
fn undo_leaves_no_trace_and_every_byte_as_it_was() {
    let home = Home::new();
    let paths = home.paths();
    files::private_dir(&paths.ssh_dir).unwrap();
    std::fs::write(paths.ssh_dir.join("config"), b"Host a\r\n\tUser b").unwrap();
    let before = home.files();
    let pinned = pin_new(
        &serving(&discovery(1, 1)),
        &arguments(&[public(1).fingerprint()]),
    )
    .unwrap();
    set_up(&home, Some(pinned), &["web-*"]).unwrap();
    files::private_dir(&paths.state_dir).unwrap();
    std::fs::write(paths.state_dir.join("hosts.json"), "{}").unwrap();
    files::private_dir(&paths.cache_dir).unwrap();
    std::fs::write(winner::file(&paths.cache_dir), "{}").unwrap();
    let run_dir = Config::load(&paths).unwrap().run_dir(&paths);
    files::private_dir(&run_dir.join("alice@prod")).unwrap();
    for link in ["alice@web-1", "alice@prod/web-1", ".0123456789abcdef"] {
        let own = paths.ssh_dir.join("config");
        std::os::unix::fs::symlink(own, run_dir.join(link)).unwrap();
    }
    files::private_dir(&slots::folder(&run_dir)).unwrap();
    let slot = slots::folder(&run_dir).join("eice-0123456789abcdef0.19");
    std::fs::write(slot, "").unwrap();
    assert!(home.files().len() > before.len() + 4);
    undo(&paths, true).unwrap();
    assert_eq!(home.files(), before);
}

#[test]
fn undo_leaves_files_of_the_users_own_alone() {
    let home = Home::new();
    set_up(&home, None, &[]).unwrap();
    let own = home.paths().config_dir.join("ca.pem");
    std::fs::write(&own, "PEM").unwrap();
    undo(&home.paths(), true).unwrap();
    assert!(own.exists() && !home.paths().config_file().exists());
}

#[test]
fn a_second_setup_changes_nothing_and_keeps_patterns_and_profiles() {
    let home = Home::new();
    let url = serving(&discovery(1, 1));
    let pinned = || Some(pin_new(&url, &arguments(&[public(1).fingerprint()])).unwrap());
    set_up(&home, pinned(), &["web-*"]).unwrap();
    let file = home.paths().config_file();
    let text =
        std::fs::read_to_string(&file).unwrap() + "[[host]]\nmatch = \"db-*\"\nttl_seconds = 60\n";
    std::fs::write(&file, text).unwrap();
    let before = home.files();
    set_up(&home, pinned(), &[]).unwrap();
    assert_eq!(home.files(), before);
    let config = Config::load(&home.paths()).unwrap();
    assert_eq!(
        (config.patterns, config.hosts.len()),
        (vec!["web-*".to_owned()], 1)
    );
    assert!(RootChain::load(&home.paths(), &config.ca.unwrap()).is_ok());
}

#[test]
fn without_a_ca_nothing_is_pinned() {
    let home = Home::new();
    set_up(&home, None, &[]).unwrap();
    let config = Config::load(&home.paths()).unwrap();
    assert!(config.ca.is_none() && !home.paths().root_file().exists());
    assert!(Installation::new(&home.paths().ssh_dir).is_in_place());
}

#[test]
fn a_second_setup_takes_only_a_root_that_follows_the_installed_one() {
    let home = Home::new();
    let fingerprints = [public(1).fingerprint(), public(2).fingerprint()];
    let url = serving(&discovery(1, 1));
    set_up(
        &home,
        Some(pin_new(&url, &arguments(&fingerprints)).unwrap()),
        &[],
    )
    .unwrap();
    for (version, named, signed) in [(3, 1, 1), (2, 2, 2)] {
        let other = serving(&discovery_of(version, named, signed));
        let mut pinned = pin_new(&other, &arguments(&fingerprints)).unwrap();
        pinned.ca.url = url.clone();
        let refused = pinned.after(&home.paths()).unwrap_err();
        assert_eq!(refused.code, exit_code::UNTRUSTED, "{version}");
    }
    let next = serving(&discovery_of(2, 1, 1));
    let mut pinned = pin_new(&next, &arguments(&fingerprints)).unwrap();
    pinned.ca.url = url.clone();
    let pinned = pinned.after(&home.paths()).unwrap();
    assert_eq!(pinned.roots.root().version, 2);
}

#[test]
fn undo_takes_nothing_of_the_users_own_from_a_folder_that_both_use() {
    let home = Home::new();
    let paths = home.paths();
    let run_dir = home.0.path().join("shared");
    files::private_dir(&paths.config_dir).unwrap();
    let config = format!("run_dir = \"{}\"\n", run_dir.display());
    std::fs::write(paths.config_file(), config).unwrap();
    set_up(&home, None, &[]).unwrap();
    let own = [
        "mail@example.org",
        ".bashrc",
        ".0123456789abcdef",
        "tunnels/notes.1",
    ];
    files::private_dir(&run_dir.join("tunnels")).unwrap();
    for name in own {
        std::fs::write(run_dir.join(name), "mine").unwrap();
    }
    std::fs::create_dir(run_dir.join("empty")).unwrap();
    undo(&paths, true).unwrap();
    for name in own.into_iter().chain(["empty"]) {
        assert!(run_dir.join(name).exists(), "{name}");
    }
}

#[test]
fn a_second_setup_of_the_same_ca_keeps_its_tls_pin_and_its_root_keys() {
    let home = Home::new();
    let url = serving(&discovery(1, 1));
    let right = [public(1).fingerprint()];
    let pem = home.0.path().join("ca.pem");
    let key = rcgen::KeyPair::generate().unwrap();
    let ca = rcgen::CertificateParams::default().self_signed(&key);
    std::fs::write(&pem, ca.unwrap().pem()).unwrap();
    let first = Arguments {
        ca_file: Some(pem.clone()),
        ..arguments(&right)
    };
    set_up(&home, Some(pin_new(&url, &first).unwrap()), &[]).unwrap();
    let before = home.files();
    // Without a terminal, and nobody asks for the fingerprint again.
    let again = pin_again(&home, &url, &arguments(&[])).unwrap();
    assert_eq!(again.ca.ca_file, Some(std::fs::canonicalize(&pem).unwrap()));
    assert_eq!(again.ca.root_fingerprints, right.clone().into());
    set_up(&home, Some(again), &[]).unwrap();
    assert_eq!(home.files(), before);
    // Another CA has none of it.
    let other = serving(&discovery(1, 1));
    let refused = pin_again(&home, &other, &arguments(&[])).unwrap_err();
    assert!(refused.message.contains("--fingerprint"), "{refused:?}");
}

#[test]
fn a_root_that_does_not_follow_is_refused_also_where_no_fingerprint_is_given() {
    let home = Home::new();
    let url = serving(&discovery(1, 1));
    let right = [public(1).fingerprint()];
    set_up(&home, Some(pin_new(&url, &arguments(&right)).unwrap()), &[]).unwrap();
    let file = home.paths().config_file();
    let text = std::fs::read_to_string(&file).unwrap();
    let other = serving(&discovery_of(2, 2, 2));
    std::fs::write(&file, text.replace(&url.to_string(), &other.to_string())).unwrap();
    let refused = pin_again(&home, &other, &arguments(&[])).unwrap_err();
    assert_eq!(refused.code, exit_code::UNTRUSTED, "{refused:?}");
}

#[test]
fn a_pin_that_goes_is_shown_before_anything_is_written() {
    let home = Home::new();
    let right = [public(1).fingerprint()];
    let mut pinned = pin_new(&serving(&discovery(1, 1)), &arguments(&right)).unwrap();
    pinned.ca.ca_file = Some(PathBuf::from("/etc/ca.pem"));
    let url = pinned.ca.url.to_string();
    set_up(&home, Some(pinned), &[]).unwrap();
    let program = Path::new("/usr/bin/eic-login");
    let plan = Plan::make(&home.paths(), program, None, &arguments(&[]), None).unwrap();
    let shown = plan.shown(&home.paths());
    for line in [
        "  - the TLS pin `/etc/ca.pem` is removed\n".to_owned(),
        format!("  - the CA {url} is removed\n"),
    ] {
        assert!(shown.contains(&line), "{shown}");
    }
}

#[test]
fn the_sessions_folder_of_sockets_is_told_to_ssh_and_not_written_down() {
    let home = Home::new();
    set_up(&home, None, &[]).unwrap();
    let paths = home.paths();
    let config = Config::load(&paths).unwrap();
    assert_eq!(config.run_dir, None);
    // A session with a folder of its own, as a login has it: the next setup tells it to ssh.
    let session = Paths {
        run_dir: home.0.path().join("session/eic"),
        ..paths.clone()
    };
    let program = Path::new("/usr/bin/eic-login");
    let plan = Plan::make(&session, program, None, &arguments(&[]), None).unwrap();
    plan.carry_out(&session, true).unwrap();
    let block = std::fs::read_to_string(paths.ssh_dir.join("eic.config")).unwrap();
    assert!(block.contains("session/eic/%r@%h"), "{block}");
    // Sessions without it use the same agent, as long as the folder can be there.
    assert_eq!(config.run_dir(&paths), paths.run_dir);
    files::private_dir(&home.0.path().join("session")).unwrap();
    assert_eq!(config.run_dir(&paths), session.run_dir);
    // Somebody's own choice stays; what an earlier setup wrote down by itself does not.
    let set = |dir: &Path| {
        let text = format!("run_dir = \"{}\"\n", dir.display());
        std::fs::write(paths.config_file(), text).unwrap();
        set_up(&home, None, &[]).unwrap();
        Config::load(&paths).unwrap().run_dir
    };
    let own = home.0.path().join("own");
    assert_eq!(set(&own), Some(own));
    assert_eq!(set(&paths.run_dir), None);
}

#[test]
fn the_program_is_named_as_path_has_it_and_only_this_very_file() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    for folder in ["other", "bin", "versions"] {
        std::fs::create_dir(at(folder)).unwrap();
    }
    std::fs::write(at("versions/1.2"), "this").unwrap();
    std::fs::write(at("other/eic-login"), "another").unwrap();
    std::os::unix::fs::symlink(at("versions/1.2"), at("bin/eic-login")).unwrap();
    let path = std::env::join_paths([PathBuf::from("bin"), at("other"), at("none"), at("bin")]);
    let found = named_in(&path.unwrap(), &at("versions/1.2"));
    assert_eq!(found, Some(at("bin/eic-login")));
    assert_eq!(named_in(at("other").as_os_str(), &at("versions/1.2")), None);
}
