//! docs/revocation.md and docs/rotation.md are true: every command runs as it is written, every piece of configuration and
//! policy is read. A block that nobody tries fails; only figures, which have no language, are passed over.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use eic_ca::config::Config;
use eic_ca::keys::{self, KeyType};
use eic_protocol::krl::Krl;
use eic_protocol::subject_key::SubjectKey;

use crate::client::Client;
use crate::http_stub::{HttpStub, response};
use crate::program::real_now;
use crate::sts::ALICE;
use crate::trust_bundle::{documents, fetch};
use crate::trust_commands::{ca_of, current, done, issued, parsed, refused, until, with_spare};
use crate::world::{NOW, World};

const REVOCATION: &str = include_str!("../../../docs/revocation.md");
const ROTATION: &str = include_str!("../../../docs/rotation.md");
const OPERATIONS: &str = include_str!("../../../docs/operations.md");
/// The fingerprint that stands for any.
const PRINT: &str = "SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU";

/// What nobody has tried yet of a page's blocks: their languages and their lines.
struct Page(Vec<(&'static str, Vec<&'static str>)>);

impl Page {
    fn read(text: &'static str) -> Self {
        let mut blocks = Vec::new();
        let mut open: Option<(&str, Vec<&str>)> = None;
        for line in text.lines().map(str::trim) {
            match (line.strip_prefix("```"), &mut open) {
                (Some(language), None) => open = Some((language, Vec::new())),
                (Some(_), Some(_)) => blocks.extend(open.take()),
                (None, Some((_, lines))) => lines.push(line),
                (None, None) => {}
            }
        }
        assert!(open.is_none(), "a block does not end");
        blocks.retain(|(language, _)| !language.is_empty());
        Self(blocks)
    }

    /// All blocks of this language.
    fn take_all(&mut self, language: &str) -> Vec<String> {
        let (these, others) = std::mem::take(&mut self.0)
            .into_iter()
            .partition(|(own, _)| *own == language);
        self.0 = others;
        let these: Vec<(&str, Vec<&str>)> = these;
        assert!(!these.is_empty(), "{language}");
        these.iter().map(|(_, lines)| lines.join("\n")).collect()
    }

    /// The commands of the block that begins with this line.
    fn take(&mut self, beginning: &str) -> Vec<&'static str> {
        let begins = |(language, lines): &(&str, Vec<&str>)| {
            *language == "sh"
                && lines
                    .first()
                    .is_some_and(|line| line.starts_with(beginning))
        };
        let at = self.0.iter().position(begins);
        let at = at.unwrap_or_else(|| panic!("no block begins with `{beginning}`"));
        self.0.remove(at).1
    }

    fn end(self) {
        assert!(self.0.is_empty(), "nobody tries {:#?}", self.0);
    }
}

/// The words of a line as a shell has them; the pages quote with `"` only.
fn words(line: &str) -> Vec<String> {
    let parts = line.split('"').enumerate();
    let mut words = Vec::new();
    for (at, part) in parts {
        match at % 2 {
            0 => words.extend(part.split_whitespace().map(str::to_owned)),
            _ => words.push(part.to_owned()),
        }
    }
    words
}

/// A line's arguments, with what this world has in the place of what stands for it.
fn arguments(line: &str, names: &[(&str, &str)]) -> Vec<String> {
    let line = names
        .iter()
        .fold(line.to_owned(), |line, (from, to)| line.replace(from, to));
    let mut words = words(&line);
    assert_eq!(words.remove(0), "eic-ca", "{line}");
    words
}

/// Runs a line, which must succeed.
async fn runs(world: &World, line: &str, names: &[(&str, &str)]) -> String {
    let arguments = arguments(line, names);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    done(world, &arguments).await
}

/// The world's configuration with this piece of a page in it.
fn with_piece(world: &World, piece: &str) -> String {
    let whole = std::fs::read_to_string(world.path("eic-ca.toml")).unwrap();
    let mut whole: toml::Table = whole.parse().unwrap();
    let key = "key/00000000-0000-0000-0000-000000000000";
    let piece: toml::Table = piece.replace("key/…", key).parse().unwrap();
    for (name, section) in piece {
        let known = whole.entry(name).or_insert(toml::Table::new().into());
        let section = section.as_table().unwrap().clone();
        known.as_table_mut().unwrap().extend(section);
    }
    whole.to_string()
}

/// Each is read as part of a whole configuration, and not as something else.
fn are_read(world: &World, pieces: &[String]) {
    let read = |text: &str| Config::parse(Path::new("eic-ca.toml"), text);
    for piece in pieces {
        let whole = with_piece(world, piece);
        read(&whole).unwrap_or_else(|error| panic!("{piece}: {error}"));
        let (section, _) = piece.split_once(']').unwrap();
        let mistaken = with_piece(world, &format!("{section}]\nunheard_of = 1\n"));
        assert!(read(&mistaken).is_err(), "{section}");
    }
}

#[test]
#[should_panic(expected = "nobody tries")]
fn a_block_that_nobody_tries_fails() {
    let mut page = Page::read("```\nfigure\n```\n\n```sh\na\n```\n1. b\n   ```sh\n   c\n   ```\n");
    assert_eq!(page.take("a"), ["a"]);
    page.end();
}

/// The sessions and commands of that page are recorded elsewhere.
#[tokio::test]
async fn the_configuration_in_the_page_about_operations_is_read() {
    let pieces = Page::read(OPERATIONS).take_all("toml");
    assert!(!pieces.is_empty());
    are_read(&World::new().await, &pieces);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_block_of_the_page_about_revocation_is_true() {
    let mut page = Page::read(REVOCATION);
    let world = World::new().await;
    world.clock.set(real_now());
    are_read(&world, &page.take_all("toml"));
    statements_are_policy(&page.take_all("json")).await;
    is_published(&world, &page.take("eic-ca bundle publish")).await;
    for line in page.take("eic-ca hosts list") {
        runs(&world, line, &[]).await;
    }
    is_revoked(&world, &page.take("eic-ca revoke serial")).await;
    page.end();
}

/// In a service of their own: what is read there once is asked by every other request.
async fn statements_are_policy(statements: &[String]) {
    let world = World::new().await;
    for statement in statements {
        let policy = |statement: &str| {
            format!("{{ \"Version\": \"2012-10-17\", \"Statement\": [{statement}] }}")
        };
        world.write("policy.json", &policy(statement));
        done(&world, &["policy", "check"]).await;
        world.write("policy.json", &policy(&statement.replace("eic:", "eic.")));
        refused(&world, &["policy", "check"]).await;
    }
}

async fn is_published(world: &World, lines: &[&str]) {
    let (_, root) = keys::root::read(&world.path("keys/root.json")).unwrap();
    let root = root.root_keys[0].fingerprint();
    let bucket = HttpStub::start(|_| response(200, NOW, "")).await;
    for line in lines {
        let names = [("/srv/www/eic", "www"), (PRINT, root.as_str())];
        if !line.contains("s3://") {
            runs(world, line, &names).await;
            continue;
        }
        let mut command = Command::new(env!("CARGO_BIN_EXE_eic-ca"));
        command
            .args(arguments(line, &names))
            .args(["--endpoint", bucket.origin()])
            .env("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
            .env("AWS_SECRET_ACCESS_KEY", "not-a-secret")
            .current_dir(world.path("."));
        let output = tokio::task::spawn_blocking(move || command.output().unwrap());
        let output = output.await.unwrap();
        assert!(output.status.success(), "{line}: {output:?}");
        let put = bucket.received();
        let put = put
            .iter()
            .find(|put| put.head.contains("trust-bundle.json"));
        assert!(
            put.is_some_and(|put| put.head.starts_with("PUT ")),
            "{put:?}"
        );
    }
}

/// Waits, for 10 s at most, until the caller is let in, or is not.
async fn gets_in(world: &World, client: &Client, wanted: bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while client.try_to_sign_in(world, ALICE).await.is_ok() != wanted {
        assert!(Instant::now() < end, "it is not {wanted} that he gets in");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn is_revoked(world: &World, lines: &[&str]) {
    let client = Client::new(1);
    let certificates = [issued(world, &client).await, issued(world, &client).await];
    let serial = certificates[0].serial.to_string();
    let request = certificates[1].request_id.to_string();
    let ca = ca_of(&certificates[0]);
    let blob = parsed(&certificates[0]).signature_key().clone();
    let blob = ssh_key::PublicKey::from(blob).to_bytes().unwrap();
    let names = [
        ("4611686018427387904", serial.as_str()),
        ("00112233445566778899aabbccddeeff", request.as_str()),
    ];
    for line in lines {
        let print = [(PRINT, ca.as_str())];
        let of_ca = line.contains("ca-key");
        let names = [&names[..], if of_ca { &print[..] } else { &[] }].concat();
        runs(world, line, &names).await;
        let is_out = |n: usize| {
            let certificate = parsed(&certificates[n]);
            move |krl: &Krl| krl.is_revoked(&certificate)
        };
        if line.starts_with("eic-ca revoke serial") {
            let bundle = until(world, is_out(0)).await;
            assert!(!is_out(1)(&bundle.revocations.read().unwrap()));
        }
        if line.starts_with("eic-ca revoke request") {
            until(world, is_out(1)).await;
        }
        if line.starts_with("eic-ca revoke caller") {
            gets_in(world, &client, line.ends_with("--undo")).await;
        }
    }
    let keys = |krl: &Krl| krl.fingerprints().count();
    until(world, |krl| keys(krl) == 1 && krl.revokes_key(&blob)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_block_of_the_page_about_rotation_is_true() {
    let mut page = Page::read(ROTATION);
    let pieces = page.take_all("toml");
    are_read(&World::new().await, &pieces);
    user_cas_are_exchanged(
        &page.take("eic-ca keys list"),
        &page.take("eic-ca keys retire"),
    )
    .await;
    several_sign(&page.take("eic-ca root init")).await;
    let (world, _) = with_spare(0).await;
    for line in page.take("eic-ca keys announce --draft") {
        runs(&world, line, &[]).await;
        assert!(world.path("next.json").exists());
    }
    let new_key = pieces.iter().find(|piece| piece.contains("host_ca ="));
    host_ca_is_stolen(new_key.unwrap(), &page.take("eic-ca key generate")).await;
    page.end();
}

async fn user_cas_are_exchanged(in_its_time: &[&str], compromised: &[&str]) {
    for retirement in [None, Some(compromised)] {
        let (world, spare) = with_spare(0).await;
        let (_, root) = keys::root::read(&world.path("keys/root.json")).unwrap();
        let first = root.user_cas[0].key.fingerprint();
        for line in in_its_time {
            let retires = line.starts_with("eic-ca keys retire");
            let key = if retires { &first } else { &spare };
            match (retires, retirement) {
                (true, Some(lines)) => {
                    for line in lines {
                        runs(&world, line, &[(PRINT, first.as_str())]).await;
                    }
                    until(&world, |krl| krl.count() == 1).await;
                }
                _ => drop(runs(&world, line, &[(PRINT, key.as_str())]).await),
            }
        }
        let list = done(&world, &["keys", "list"]).await;
        let line = |key: &str| list.lines().find(|line| line.starts_with(key)).unwrap();
        assert!(line(&first).contains("retired"), "{list}");
        assert!(line(&spare).ends_with("signs"), "{list}");
    }
}

/// The first root of a CA, as the page has it; the next one would need the present one's keys as well.
async fn several_sign(lines: &[&str]) {
    let world = World::new().await.stopped().await;
    for name in ["alice", "bob", "carol"] {
        keys::new_key_file(&world.path(name), KeyType::Ed25519).unwrap();
    }
    std::fs::remove_file(world.path("keys/root.json")).unwrap();
    let mut told = String::new();
    for line in lines {
        told = runs(&world, line, &[("/media/usb/", "")]).await;
    }
    assert!(
        told.starts_with("version 1, 2 of 3 root keys sign"),
        "{told}"
    );
    let world = world.started().await;
    let served = documents(&fetch(&world, "", None).await);
    assert_eq!(served.roots.len(), 1);
}

async fn host_ca_is_stolen(new_key: &str, lines: &[&str]) {
    let mut world = World::new().await;
    let (_, root) = keys::root::read(&world.path("keys/root.json")).unwrap();
    let stolen = root.host_cas[0].fingerprint();
    let mut told = String::new();
    for line in lines {
        told = runs(&world, line, &[(PRINT, stolen.as_str())]).await;
        match words(line)[1..3].join(" ").as_str() {
            "key generate" => world.write("eic-ca.toml", &with_piece(&world, new_key)),
            "root update" => world = world.restarted().await,
            "revoke ca-key" => drop(until(&world, |krl| krl.count() == 1).await),
            _ => {}
        }
    }
    assert!(told.contains("0 of 0 hosts report"), "{told}");
    let list = done(&world, &["keys", "list"]).await;
    let new = std::fs::read_to_string(world.path("keys/host-ca-2.pub")).unwrap();
    let new: SubjectKey = new.trim().parse().unwrap();
    let line = |key: &str| list.lines().find(|line| line.starts_with(key)).unwrap();
    assert!(line(&stolen).contains("host CA   revoked"), "{list}");
    assert!(
        line(&new.fingerprint()).contains("host CA   active"),
        "{list}"
    );
    assert_eq!(current(&world).await.root_version, 2);
}
