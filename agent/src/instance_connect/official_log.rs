//! The official host scripts' log lines for failures, so that searches and alarms made for them go on working.
//! Our own reason follows in a line of its own.

use super::metadata::MetadataError;
use super::place::UnknownPlace;
use super::signer::UntrustedSigner;
use super::{NoKeys, OTHER_MACHINE};

/// The line that the official scripts have, or meant to have, for a failure; `None` where they are silent.
pub(super) fn line(error: &NoKeys) -> Option<String> {
    let text = match error {
        NoKeys::Signer(signer) => return Some(signer_line(signer)),
        NoKeys::Staple => return Some(revocation_line("")),
        NoKeys::Place(UnknownPlace::Domain) => {
            "EC2 Instance Connect found an invalid domain and will do nothing."
        }
        NoKeys::Metadata(MetadataError::Token) => {
            "EC2 Instance Connect failed to get a token to invoke Instance Metadata Service."
        }
        NoKeys::OtherInstance => OTHER_MACHINE,
        NoKeys::Metadata(_) | NoKeys::Place(UnknownPlace::Zone) | NoKeys::Roots(_) => return None,
    };
    Some(text.to_owned())
}

/// Our own line, with every cause.
pub(super) fn reason(error: &NoKeys) -> String {
    let reason = crate::commands::chain(error);
    format!("EC2 Instance Connect gives no keys: failed to {reason}")
}

/// The line for a signer that is not trusted.
pub(crate) fn signer_line(error: &UntrustedSigner) -> String {
    match error {
        UntrustedSigner::Name => "EC2 Instance Connect encountered an unrecognized signer certificate. No keys have been trusted.".to_owned(),
        UntrustedSigner::Staples => revocation_line(""),
        UntrustedSigner::Revocation { certificate, .. } => revocation_line(certificate),
        UntrustedSigner::Pem
        | UntrustedSigner::Der(_)
        | UntrustedSigner::Key
        | UntrustedSigner::Issuer
        | UntrustedSigner::Chain(_) => "EC2 Instance Connect could not verify the signer trust chain. No keys have been trusted.".to_owned(),
    }
}

/// The line for a certificate that may be revoked.
fn revocation_line(certificate: &str) -> String {
    let name = if certificate.is_empty() {
        String::new()
    } else {
        format!(" {certificate}")
    };
    format!(
        "EC2 Instance Connect could not verify certificate{name} has not been revoked. No keys have been trusted."
    )
}
