//! Endpoints other than AWS's own: stand-ins on loopback, or a VPC endpoint over TLS.

use eic_protocol::text::printable;

use super::document::Section;

/// An origin without path: `https://host[:port]`, or `http://` on loopback.
pub(super) fn read(section: &Section<'_>, key: &str) -> Option<String> {
    let text = section.string(key)?;
    match text.parse::<eic_protocol::proof::Audience>() {
        Ok(origin) => Some(origin.to_string()),
        Err(_) => {
            let problem = format!(
                "`{}` is not `https://host[:port]` (plain http on loopback only)",
                printable(&text)
            );
            section.mistake(key, problem);
            None
        }
    }
}
