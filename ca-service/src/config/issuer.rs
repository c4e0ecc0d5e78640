//! What `[[oidc]]`, `[[aws_sts.web_identity]]` and `[[hosts.accounts]]` say of a token issuer: its name, where its keys
//! are, which algorithms count. Whose tokens of it are taken is each section's own business.

use super::document::Section;
use crate::web_token::issuer::{Issuer, IssuerRules};
use crate::web_token::jwt::Algorithm;

/// The issuer that a section is about, with its algorithms.
pub(super) fn required(section: &Section<'_>, example: &str) -> Option<IssuerRules> {
    let issuer = section.required::<Issuer>("issuer", "issuer = \"https://issuer.example\"");
    if !section.has("algorithms") {
        section.mistake(
            "algorithms",
            format!("is missing; write for example `{example}`"),
        );
    }
    read(section, issuer, Vec::new())
}

/// The issuer that a section may name; these are its algorithms where none are named.
pub(super) fn optional(section: &Section<'_>, algorithms: Vec<Algorithm>) -> Option<IssuerRules> {
    read(section, section.parsed("issuer"), algorithms)
}

fn read(
    section: &Section<'_>,
    issuer: Option<Issuer>,
    default: Vec<Algorithm>,
) -> Option<IssuerRules> {
    let jwks_uri = section.string("jwks_uri");
    if jwks_uri.as_ref().is_some_and(|uri| !is_fetchable(uri)) {
        section.mistake("jwks_uri", "must be an `https://` address");
    }
    let private_addresses = section.flag("private_addresses").unwrap_or(false);
    let algorithms = section.words("algorithms", &Algorithm::NAMES);
    if algorithms.as_ref().is_some_and(Vec::is_empty) {
        section.mistake("algorithms", "name at least one algorithm");
    }
    Some(IssuerRules {
        issuer: issuer?,
        jwks_uri,
        private_addresses,
        algorithms: algorithms.unwrap_or(default),
    })
}

/// By TLS, or from a stand-in on loopback.
fn is_fetchable(uri: &str) -> bool {
    let parsed: Option<http::Uri> = uri.parse().ok();
    let host = parsed
        .as_ref()
        .and_then(http::Uri::host)
        .unwrap_or_default();
    let loopback = uri.starts_with("http://") && matches!(host, "127.0.0.1" | "[::1]");
    !host.is_empty() && (uri.starts_with("https://") || loopback)
}
