//! A certificate, checked in sshd's order: its key's type, the lists of revoked keys, the CA, the names, the
//! times, the options. The names are those that this agent's own command would answer.

use std::path::Path;

use eic_protocol::key_fingerprint::KeyFingerprint;
use eic_protocol::subject_key::SubjectKey;
use eic_protocol::trust::root::{KeyState, ScopedCa};
use ssh_encoding::Encode as _;
use ssh_key::certificate::{CertType, Certificate};

use super::Case;
use super::finding::Findings;
use super::key::{check_type, revoked};
use crate::calendar::rfc3339;
use crate::commands::cannot;
use crate::principals::{self, Local, Question};
use crate::trusted_file::read_of_anybody;

/// Largest file that is read, in bytes.
const MAX_BYTES: usize = 64 * 1024;

pub(super) fn examine(file: &Path, case: &Case<'_>, findings: &mut Findings) {
    let Some(certificate) = read(file, findings) else {
        return;
    };
    findings.note(
        "certificate",
        format!(
            "ID {} (serial {}), signed by {}",
            certificate.key_id(),
            certificate.serial(),
            ca_fingerprint(&certificate)
        ),
    );
    kind(&certificate, findings);
    check_type(
        &certificate.algorithm().to_certificate_type(),
        &case.settings,
        findings,
    );
    revoked(file, &case.settings, findings);
    ca(&certificate, case, findings);
    validity(&certificate, case.now, findings);
    names(&certificate, case, findings);
    options(&certificate, findings);
}

fn read(file: &Path, findings: &mut Findings) -> Option<Certificate> {
    let text = match read_of_anybody(file, MAX_BYTES) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(e) => {
            findings.bad("certificate", cannot(&e), "name a readable file");
            return None;
        }
    };
    let parsed = text
        .lines()
        .next()
        .map(|line| Certificate::from_openssh(line.trim()));
    match parsed {
        Some(Ok(certificate)) => Some(certificate),
        _ => {
            findings.bad(
                "certificate",
                format!("{} holds no OpenSSH certificate", file.display()),
                "name the file that ends in -cert.pub, or use --key for a plain key",
            );
            None
        }
    }
}

fn kind(certificate: &Certificate, findings: &mut Findings) {
    if certificate.cert_type() != CertType::User {
        findings.bad(
            "certificate",
            "it is a host certificate",
            "ask for a user certificate",
        );
    }
    if certificate.verify_signature().is_err() {
        findings.bad(
            "certificate",
            "its signature does not hold",
            "ask for a new one",
        );
    }
}

fn ca_fingerprint(certificate: &Certificate) -> String {
    let key = certificate.signature_key().encode_vec().ok();
    let key = key.and_then(|blob| SubjectKey::from_blob(&blob).ok());
    key.map_or_else(
        || "a key of an unknown kind".to_owned(),
        |key| key.fingerprint(),
    )
}

fn ca(certificate: &Certificate, case: &Case<'_>, findings: &mut Findings) {
    let algorithm = certificate.signature().algorithm().to_string();
    let accepted = case.settings.values("CASignatureAlgorithms");
    if !accepted.is_empty()
        && !accepted
            .iter()
            .any(|list| list.split(',').any(|a| a == algorithm))
    {
        findings.bad(
            "certificate",
            format!("sshd takes no CA signature of the kind {algorithm}"),
            "CASignatureAlgorithms, or a CA key of another type",
        );
    }
    let Some(state) = &case.trust else { return };
    let fingerprint = ca_fingerprint(certificate);
    let known: Option<&ScopedCa> = state
        .root
        .user_cas
        .iter()
        .chain(&state.endorsed)
        .find(|ca| ca.key.fingerprint() == fingerprint);
    match known {
        None => findings.bad(
            "certificate",
            format!("this host does not know the CA {fingerprint}"),
            "a certificate of this host's CA, or newer trust documents (eic-agent status)",
        ),
        Some(ca) if ca.state == KeyState::Retired => findings.bad(
            "certificate",
            format!("the CA {fingerprint} is retired"),
            "a certificate by an active CA key",
        ),
        Some(_) => findings.good("certificate", "its CA is trusted here"),
    }
}

fn validity(certificate: &Certificate, now: u64, findings: &mut Findings) {
    let (after, before) = (certificate.valid_after(), certificate.valid_before());
    let span = format!("good from {} to {}", rfc3339(after), shown_end(before));
    if now < after {
        findings.bad(
            "certificate",
            format!("it is not good yet: {span}"),
            "wait, or set the clocks",
        );
    } else if now >= before {
        findings.bad(
            "certificate",
            format!("it has expired: {span}"),
            "ask for a new one",
        );
    } else {
        findings.good("certificate", span);
    }
}

/// The largest number stands for ever (draft-miller-ssh-cert §2.1).
fn shown_end(before: u64) -> String {
    if before > MAX_SHOWN {
        "ever".to_owned()
    } else {
        rfc3339(before)
    }
}

/// The last second of the year 9999.
const MAX_SHOWN: u64 = 253_402_300_799;

fn names(certificate: &Certificate, case: &Case<'_>, findings: &mut Findings) {
    let held = certificate.valid_principals();
    let (Some(state), Some(user)) = (&case.trust, &case.options.user) else {
        findings.note(
            "certificate",
            format!("it names {}; add --user to judge that", held.join(", ")),
        );
        return;
    };
    let Ok(ca) = ca_fingerprint(certificate).parse::<KeyFingerprint>() else {
        return;
    };
    let question = Question {
        user: user.clone(),
        ca,
    };
    let local = Local {
        passwd: &case.system.passwd,
        trusted: &case.system.trusted,
        bare_principals: case.config.trust.bare_principals,
    };
    match principals::lines(&question, state, &local, case.now) {
        Ok(lines) => judge_names(held, &lines, user, findings),
        Err(e) => findings.bad("certificate", cannot(&e), "correct the file"),
    }
}

fn judge_names(held: &[String], accepted: &str, user: &str, findings: &mut Findings) {
    let accepted: Vec<&str> = accepted.lines().collect();
    if accepted.is_empty() {
        findings.bad(
            "certificate",
            format!("this host takes no certificate of that CA for {user} now (its scope: users, uid 0, hours)"),
            "a certificate by a CA key that may open this account",
        );
        return;
    }
    match held.iter().find(|name| accepted.contains(&name.as_str())) {
        Some(name) => findings.good("certificate", format!("it names {name}")),
        None => findings.bad(
            "certificate",
            format!(
                "it names {}, this host takes {} for {user}",
                shown(held),
                accepted.join(", ")
            ),
            "ask for a certificate for this user and this host",
        ),
    }
}

fn shown(names: &[String]) -> String {
    if names.is_empty() {
        "nobody".to_owned()
    } else {
        names.join(", ")
    }
}

/// Unknown critical options refuse a certificate; the known ones are conditions.
fn options(certificate: &Certificate, findings: &mut Findings) {
    for (name, value) in certificate.critical_options().iter() {
        match name.as_str() {
            "source-address" => {
                findings.note("certificate", format!("only from the addresses {value}"));
            }
            "force-command" => {
                findings.note("certificate", format!("only for the command {value}"));
            }
            "verify-required" => findings.note("certificate", "only with a PIN on the FIDO key"),
            other => findings.bad(
                "certificate",
                format!("sshd does not know its critical option {other}"),
                "a certificate without that option",
            ),
        }
    }
    for misplaced in ["source-address", "force-command"] {
        if certificate
            .extensions()
            .keys()
            .any(|name| name == misplaced)
        {
            findings.note(
                "certificate",
                format!("{misplaced} is an extension in it: sshd ignores that"),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names_verdict(held: &[&str], accepted: &str) -> String {
        let held: Vec<String> = held.iter().map(|name| (*name).to_owned()).collect();
        let mut findings = Findings::default();
        judge_names(&held, accepted, "a", &mut findings);
        findings.judged(false).text
    }

    #[test]
    fn names_that_this_host_does_not_take_are_refused() {
        let accepted = "a@i-0123456789abcdef0\na@fleet/web\n";
        for held in [&["b@i-0123456789abcdef0"][..], &["a"], &[]] {
            assert!(names_verdict(held, accepted).contains("FAIL"), "{held:?}");
        }
        assert!(names_verdict(&["a@fleet/web"], "").contains("takes no certificate of that CA"));
        assert!(
            names_verdict(&["x", "a@fleet/web"], accepted)
                .contains("ok   certificate: it names a@fleet/web")
        );
    }

    #[test]
    fn a_fifo_in_place_of_a_certificate_holds_nobody_up() {
        use rustix::fs::{CWD, FileType, Mode, mknodat};
        let folder = tempfile::tempdir().unwrap();
        let fifo = folder.path().join("cert.pub");
        mknodat(CWD, &fifo, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let mut findings = Findings::default();
        assert!(read(&fifo, &mut findings).is_none());
        assert!(findings.judged(false).text.contains("not a regular file"));
    }

    #[test]
    fn an_end_that_never_comes_is_no_date() {
        assert_eq!(shown_end(u64::MAX), "ever");
        assert_eq!(shown_end(0), "1970-01-01T00:00:00Z");
    }
}
