//! `[[oidc]]` and `[[aws_sts.web_identity]]`: whose tokens are taken, and what of them counts.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use eic_protocol::arn::AccountId;

use super::document::Section;
use super::policy::PolicyConfig;
use crate::authn::oidc::{IssuerRules, OidcRules};
use crate::authn::web_identity::AccountRules;
use crate::policy::AttachedPrincipal;
use crate::web_token::issuer::Issuer;
use crate::web_token::jwt::Algorithm;

/// Where the issuers of AWS accounts are (IAM user guide, "Outbound identity federation").
const AWS_ISSUERS: &str = ".tokens.sts.global.api.aws";
/// Issuers that anybody can get a token of, and the claim that says whose it is: an id, since names can be taken over.
const OF_EVERYBODY: [(&str, &str); 4] = [
    (
        "https://token.actions.githubusercontent.com",
        "repository_owner_id",
    ),
    ("https://gitlab.com", "namespace_id"),
    ("https://accounts.google.com", "hd"),
    ("https://agent.buildkite.com", "organization_id"),
];

/// An algorithm by its name in the configuration.
struct Named(Algorithm);

impl FromStr for Named {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Algorithm::NAMES.iter().find(|(name, _)| *name == text);
        found.map(|(_, algorithm)| Self(*algorithm)).ok_or_else(|| {
            let names: Vec<_> = Algorithm::NAMES
                .iter()
                .map(|(name, _)| format!("\"{name}\""))
                .collect();
            format!(
                "`{}` is not one of {}",
                eic_protocol::text::printable(text),
                names.join(", ")
            )
        })
    }
}

/// `[[oidc]]`
pub(super) fn read(section: &Section<'_>) -> Option<OidcRules> {
    let issuer = read_issuer(section, "algorithms = [\"RS256\"]");
    let claims = section.list::<String>("claims");
    let require = section.table("require").map(|s| read_require(&s));
    let rules = OidcRules {
        issuer: issuer?,
        claims: claims.map(|names| names.into_iter().collect::<BTreeSet<_>>()),
        require: require.unwrap_or_default(),
    };
    check_issuer(section, &rules);
    section.refuse_unknown();
    Some(rules)
}

/// `claim = ["value", …]`
fn read_require(section: &Section<'_>) -> BTreeMap<String, Vec<String>> {
    let mut required = BTreeMap::new();
    for name in section.names() {
        let values = section.list::<String>(&name).unwrap_or_default();
        if values.is_empty() {
            section.mistake(&name, "name at least one value, as in `[\"123456\"]`");
        }
        required.insert(name, values);
    }
    required
}

fn read_issuer(section: &Section<'_>, example: &str) -> Option<IssuerRules> {
    let issuer = section.required::<Issuer>("issuer", "issuer = \"https://issuer.example\"");
    let jwks_uri = section.string("jwks_uri");
    let private_addresses = section.flag("private_addresses").unwrap_or(false);
    if !section.has("algorithms") {
        section.mistake(
            "algorithms",
            format!("is missing; write for example `{example}`"),
        );
    }
    let algorithms = section.list::<Named>("algorithms").unwrap_or_default();
    if algorithms.is_empty() && section.has("algorithms") {
        section.mistake("algorithms", "name at least one algorithm");
    }
    if jwks_uri.as_ref().is_some_and(|uri| !is_fetchable(uri)) {
        section.mistake("jwks_uri", "must be an `https://` address");
    }
    Some(IssuerRules {
        issuer: issuer?,
        jwks_uri,
        private_addresses,
        algorithms: algorithms
            .into_iter()
            .map(|Named(algorithm)| algorithm)
            .collect(),
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

fn check_issuer(section: &Section<'_>, rules: &OidcRules) {
    let issuer = &rules.issuer.issuer;
    if issuer.as_str().ends_with(AWS_ISSUERS) {
        section.mistake(
            "issuer",
            "the issuer of an AWS account belongs under [[aws_sts.web_identity]]: its tokens stand beside AWS credentials",
        );
    }
    if !issuer.is_unique() && rules.issuer.jwks_uri.is_none() {
        section.mistake(
            "issuer",
            "other clusters have an issuer of the same name: pin this one's keys with `jwks_uri`",
        );
    }
    let everybodys = OF_EVERYBODY
        .iter()
        .find(|(text, _)| *text == issuer.as_str());
    if let Some((_, claim)) = everybodys.filter(|_| rules.require.is_empty()) {
        section.mistake(
            "issuer",
            format!("anybody can get tokens of this issuer: say whose are taken, as in `require = {{ {claim} = [\"…\"] }}`"),
        );
    }
}

/// `[[aws_sts.web_identity]]`
pub(super) fn read_account(section: &Section<'_>) -> Option<AccountRules> {
    let account = section.required::<AccountId>("account", "account = \"111122223333\"");
    let issuer = read_issuer(section, "algorithms = [\"ES384\"]");
    let required = section.flag("required").unwrap_or(false);
    section.refuse_unknown();
    Some(AccountRules {
        account: account?,
        issuer: issuer?,
        required,
    })
}

/// Each issuer and account once, and no attachment to an issuer whose tokens are not taken.
pub(super) fn check(
    top: &Section<'_>,
    oidc: &[OidcRules],
    accounts: &[AccountRules],
    policy: Option<&PolicyConfig>,
) {
    let mut issuers = BTreeSet::new();
    let named = oidc.iter().map(|rules| &rules.issuer.issuer);
    for issuer in named.chain(accounts.iter().map(|rules| &rules.issuer.issuer)) {
        if !issuers.insert(issuer.as_str()) {
            top.mistake("oidc", format!("the issuer `{issuer}` is named twice"));
        }
    }
    let mut seen = BTreeSet::new();
    for rules in accounts {
        if !seen.insert(rules.account.as_str()) {
            top.mistake(
                "aws_sts",
                format!("`web_identity` names account {} twice", rules.account),
            );
        }
    }
    let attachments = policy.map_or(&[][..], |policy| &policy.attachments);
    for attachment in attachments {
        if let AttachedPrincipal::Oidc { issuer, .. } = &attachment.principal
            && !oidc
                .iter()
                .any(|rules| rules.issuer.issuer.as_str() == issuer)
        {
            top.mistake(
                "policy",
                format!("an attachment names the issuer `{issuer}`, and no [[oidc]] has it"),
            );
        }
    }
}
