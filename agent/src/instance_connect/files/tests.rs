//! Verification of given files: the same refusals as from the metadata service, and the trust anchor's rule.

use eic_protocol::key_fingerprint::KeyFingerprint;

use super::super::test_pki::{
    Authority, INSTANCE, NOW, SIGNER, World, ed25519_line, good_record, pem, signer_key,
};
use super::*;
use std::fs;

struct Silent;

impl Log for Silent {
    fn info(&self, _: &str) {}
}

struct Files {
    folder: tempfile::TempDir,
    world: World,
}

impl Files {
    fn new() -> Self {
        let files = Self {
            folder: tempfile::tempdir().unwrap(),
            world: World::new(),
        };
        files.write("records", &good_record(&ed25519_line(1)));
        files.write("anchors/Test_Root.pem", &pem(&[&files.world.root.der]));
        let staples = files.world.staples();
        for (certificate, staple) in [&files.world.leaf, &files.world.intermediate.der]
            .into_iter()
            .zip(&staples)
        {
            fs::create_dir_all(files.path("staples")).unwrap();
            fs::write(files.path("staples").join(name(certificate)), staple).unwrap();
        }
        files
    }

    fn path(&self, part: &str) -> std::path::PathBuf {
        self.folder.path().join(part)
    }

    fn write(&self, part: &str, text: &str) {
        fs::create_dir_all(self.path(part).parent().unwrap()).unwrap();
        fs::write(self.path(part), text).unwrap();
    }

    fn options(&self) -> ParseOptions {
        ParseOptions {
            debug: false,
            records: self.path("records"),
            chain: self.world.chain(),
            instance: INSTANCE.to_owned(),
            signer: SIGNER.to_owned(),
            anchors: self.path("anchors"),
            staples: self.path("staples"),
            fingerprint: None,
        }
    }
}

fn name(certificate: &[u8]) -> String {
    let hash = ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, certificate);
    hash.as_ref()
        .iter()
        .map(|byte| format!("{byte:02X}"))
        .collect()
}

fn asked(options: &ParseOptions) -> Result<String, Unusable> {
    keys(options, None, &Silent, NOW)
}

#[test]
fn missing_files_give_no_keys() {
    let files = Files::new();
    assert!(asked(&files.options()).is_ok());
    let leaf = format!("staples/{}", name(&files.world.leaf));
    for part in ["records", "anchors/Test_Root.pem", &leaf] {
        let kept = fs::read(files.path(part)).unwrap();
        fs::remove_file(files.path(part)).unwrap();
        assert!(asked(&files.options()).is_err(), "{part}");
        fs::write(files.path(part), kept).unwrap();
    }
}

#[test]
fn a_chain_to_another_root_than_the_stated_one_is_refused() {
    // I-11, I-13
    let files = Files::new();
    let other = Authority::root("Test Root");
    files.write("anchors/Test_Root.pem", &pem(&[&other.der]));
    assert!(matches!(
        asked(&files.options()),
        Err(Unusable::Signer(UntrustedSigner::Chain(_)))
    ));
}

#[test]
fn pinned_roots_take_the_place_of_the_stated_ones() {
    // I-11: `-a /etc/ssl/certs` under sshd does not make every public CA a signer's
    let files = Files::new();
    let other = Roots::from_pem(pem(&[&Authority::root("Amazon").der]).as_bytes()).unwrap();
    assert!(keys(&files.options(), Some(&other), &Silent, NOW).is_err());
    fs::remove_dir_all(files.path("anchors")).unwrap();
    let own = Roots::from_pem(pem(&[&files.world.root.der]).as_bytes()).unwrap();
    assert!(keys(&files.options(), Some(&own), &Silent, NOW).is_ok());
}

#[test]
fn another_signer_instance_or_time_is_refused() {
    let files = Files::new();
    for name in [
        "",
        "managed-ssh-signer.eu-west-1.amazonaws.com",
        "*",
        "managed ssh",
    ] {
        let options = ParseOptions {
            signer: name.to_owned(),
            ..files.options()
        };
        assert!(
            matches!(
                asked(&options),
                Err(Unusable::Signer(UntrustedSigner::Name))
            ),
            "{name}"
        );
    }
    let options = ParseOptions {
        instance: "i-0fedcba9876543210".to_owned(),
        ..files.options()
    };
    assert_eq!(asked(&options).unwrap(), "");
    assert_eq!(keys(&files.options(), None, &Silent, NOW + 60).unwrap(), "");
}

#[test]
fn chains_that_are_none_are_refused() {
    let files = Files::new();
    for chain in [
        "",
        "PEM",
        &pem(&[&files.world.leaf]),
        &pem(&[&files.world.leaf; 9]),
    ] {
        let options = ParseOptions {
            chain: chain.to_owned(),
            ..files.options()
        };
        assert!(asked(&options).is_err());
    }
}

#[test]
fn a_root_whose_name_leads_elsewhere_is_no_file() {
    for bad in ["", ".", "..", "../../etc/passwd", "a/b", ".hidden", "a\0b"] {
        assert_eq!(file_name(bad), None, "{bad:?}");
    }
    let root = Authority::root("../evil");
    let leaf = root.leaf(signer_key(), |_| {});
    let files = Files::new();
    files.write("evil.pem", &pem(&[&root.der]));
    let options = ParseOptions {
        chain: pem(&[&leaf, &root.der]),
        ..files.options()
    };
    assert!(matches!(asked(&options), Err(Unusable::Anchors)));
}

#[test]
fn oversized_files_are_refused() {
    let files = Files::new();
    files.write("records", &good_record(&ed25519_line(1)).repeat(600));
    assert!(matches!(asked(&files.options()), Err(Unusable::Records)));
}

#[test]
fn folders_and_bundles_are_both_anchors() {
    let files = Files::new();
    let line = format!("{}\n", ed25519_line(1));
    assert_eq!(asked(&files.options()).unwrap(), line);
    let bundle = [
        pem(&[&Authority::root("First").der]),
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_owned(),
        pem(&[&files.world.root.der]),
    ];
    files.write("bundle.crt", &bundle.concat());
    let with_bundle = ParseOptions {
        anchors: files.path("bundle.crt"),
        ..files.options()
    };
    assert_eq!(asked(&with_bundle).unwrap(), line);
    // A chain that leaves its root out is found by its issuer's name.
    let short = pem(&[&files.world.leaf, &files.world.intermediate.der]);
    let without_root = ParseOptions {
        chain: short,
        ..files.options()
    };
    assert_eq!(asked(&without_root).unwrap(), line);
}

#[test]
fn only_the_wanted_fingerprint_is_given() {
    let files = Files::new();
    files.write(
        "records",
        &[good_record(&ed25519_line(1)), good_record(&ed25519_line(2))].concat(),
    );
    let wanted = |text: &str| {
        let fingerprint: KeyFingerprint = text.parse().unwrap();
        asked(&ParseOptions {
            fingerprint: Some(fingerprint),
            ..files.options()
        })
        .unwrap()
    };
    let key = crate::instance_connect::key::PushedKey::parse(&ed25519_line(2), &Default::default())
        .unwrap();
    assert_eq!(wanted(&key.fingerprint()), format!("{}\n", ed25519_line(2)));
    assert_eq!(
        wanted("SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU"),
        ""
    );
}
