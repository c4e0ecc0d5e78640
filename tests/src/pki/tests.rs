//! The generated forms, right and wrong, as OpenSSL judges them.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;
use std::time::{SystemTime, UNIX_EPOCH};

use super::*;

/// When this process began. `openssl ocsp` holds a status against the machine's clock, whatever time it is told.
static NOW: LazyLock<u64> = LazyLock::new(|| {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    since.as_secs()
});

/// A folder with a chain's certificates as files.
struct Judge {
    folder: tempfile::TempDir,
    chain: SignerChain,
}

impl Judge {
    fn of(chain: SignerChain) -> Judge {
        let folder = tempfile::tempdir().unwrap();
        for (name, certificate) in [
            ("root", &chain.root),
            ("intermediate", &chain.intermediate),
            ("signer", &chain.signer),
        ] {
            fs::write(folder.path().join(name), certificate.pem()).unwrap();
        }
        Judge { folder, chain }
    }

    fn right() -> Judge {
        Judge::of(SignerChain::right("us-east-1", "amazonaws.com", *NOW).unwrap())
    }

    fn openssl(&self, line: &str) -> (bool, String) {
        let output = Command::new("openssl")
            .args(line.split_whitespace())
            .current_dir(self.folder.path())
            .output()
            .unwrap();
        let text = [output.stdout, output.stderr].concat();
        (
            output.status.success(),
            String::from_utf8_lossy(&text).into_owned(),
        )
    }

    fn verify(&self, root: &Path) -> (bool, String) {
        let line = "verify -x509_strict -untrusted intermediate -CAfile";
        self.openssl(&format!(
            "{line} {} -attime {} signer",
            root.display(),
            *NOW
        ))
    }

    /// What `openssl ocsp` says of the signer by this staple.
    fn ocsp(&self, staple: &Staple<'_>) -> String {
        let Judge { chain, folder } = self;
        let response = staple.sign(&chain.signer, &chain.intermediate).unwrap();
        fs::write(folder.path().join("staple"), response).unwrap();
        let line = "ocsp -no_nonce -issuer intermediate -cert signer -VAfile intermediate -CAfile root -respin staple";
        self.openssl(&format!("{line} -attime {}", *NOW)).1
    }
}

#[test]
fn expired_signer_and_foreign_root_are_refused() {
    let expired = Subject::signer("us-east-1", "amazonaws.com", Period::past(*NOW));
    let judge = Judge::of(SignerChain::with_signer(&expired, *NOW).unwrap());
    let (accepted, text) = judge.verify(Path::new("root"));
    assert!(
        !accepted && text.contains("certificate has expired"),
        "{text}"
    );

    let (here, elsewhere) = (Judge::right(), Judge::right());
    let (accepted, text) = here.verify(&elsewhere.folder.path().join("root"));
    assert!(!accepted, "a foreign root of the same name: {text}");
    let (accepted, text) = here.verify(Path::new("root"));
    assert!(accepted, "{text}");
}

#[test]
fn second_common_name_is_written() {
    let mut subject = Subject::signer("us-east-1", "amazonaws.com", Period::around(*NOW, 1));
    subject.common_names.push("second".into());
    let judge = Judge::of(SignerChain::with_signer(&subject, *NOW).unwrap());
    let (_, text) = judge.openssl("x509 -in signer -noout -subject");
    assert_eq!(text.matches("CN = ").count(), 2, "{text}");
}

#[test]
fn staples_say_what_was_asked_for() {
    let judge = Judge::right();
    let good = Staple::good(*NOW);
    assert!(
        judge.ocsp(&good).contains("signer: good"),
        "{}",
        judge.ocsp(&good)
    );
    let sha256 = Staple {
        hash: HashKind::Sha256,
        ..good.clone()
    };
    assert!(
        !judge.ocsp(&sha256).contains("signer: good"),
        "openssl asks for SHA-1 names"
    );
    let revoked = Staple {
        status: CertificateStatus::Revoked(*NOW - 60),
        ..good.clone()
    };
    assert!(judge.ocsp(&revoked).contains("signer: revoked"));
    let unknown = Staple {
        status: CertificateStatus::Unknown,
        ..good.clone()
    };
    assert!(judge.ocsp(&unknown).contains("signer: unknown"));
    let unauthorized = Staple {
        response_status: 6,
        ..good
    };
    assert!(judge.ocsp(&unauthorized).contains("unauthorized"));
}

#[test]
fn staples_by_others_than_the_issuer_are_refused_unless_delegated() {
    let judge = Judge::right();
    let responder = |role| Subject {
        common_names: vec!["responder".into()],
        period: Period::around(*NOW, 10),
        role,
        alternative_names: Vec::new(),
    };
    let delegate = judge
        .chain
        .intermediate
        .issue(&responder(Role::OcspResponder))
        .unwrap();
    let plain = judge
        .chain
        .intermediate
        .issue(&responder(Role::Plain))
        .unwrap();
    let by = |responder| {
        judge.ocsp(&Staple {
            responder,
            ..Staple::good(*NOW)
        })
    };
    assert!(by(Responder::Delegated(&delegate)).contains("Response verify OK"));
    assert!(!by(Responder::Delegated(&plain)).contains("Response verify OK"));
    assert!(!by(Responder::Absent(&delegate)).contains("Response verify OK"));
}

#[test]
fn record_signature_is_pss_with_a_salt_of_32_bytes() {
    let judge = Judge::right();
    let record =
        Record::new("ssh-ed25519 AAAA\n", "i-0123456789abcdef0", *NOW + 60).asked_by("arn", "id");
    assert_eq!(
        record.signed_bytes(),
        format!(
            "#Timestamp={}\n#Instance=i-0123456789abcdef0\n#Caller=arn\n#Request=id\nssh-ed25519 AAAA\n",
            *NOW + 60
        )
    );
    let signature = judge
        .chain
        .signer
        .sign_pss(record.signed_bytes().as_bytes())
        .unwrap();
    fs::write(judge.folder.path().join("signed"), record.signed_bytes()).unwrap();
    fs::write(judge.folder.path().join("signature"), signature).unwrap();
    let public = judge.openssl("x509 -in signer -noout -pubkey").1;
    fs::write(judge.folder.path().join("public"), public).unwrap();
    let line = "dgst -sha256 -verify public -signature signature -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:32";
    assert_eq!(
        judge.openssl(&format!("{line} signed")),
        (true, "Verified OK\n".into())
    );
}
