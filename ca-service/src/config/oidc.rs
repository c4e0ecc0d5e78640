//! `[[oidc]]` and `[[aws_sts.web_identity]]`: whose tokens are taken, and what of them counts.

use std::collections::{BTreeMap, BTreeSet};

use eic_protocol::arn::AccountId;

use super::document::Section;
use super::issuer;
use super::policy::PolicyConfig;
use crate::authn::oidc::OidcRules;
use crate::authn::web_identity::AccountRules;
use crate::policy::AttachedPrincipal;

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

/// `[[oidc]]`
pub(super) fn read(section: &Section<'_>) -> Option<OidcRules> {
    let issuer = issuer::required(section, "algorithms = [\"RS256\"]");
    let client_id = read_client_id(section);
    let claims = section.list::<String>("claims");
    let require = section.table("require").map(|s| read_require(&s));
    let rules = OidcRules {
        issuer: issuer?,
        client_id,
        claims: claims.map(|names| names.into_iter().collect::<BTreeSet<_>>()),
        require: require.unwrap_or_default(),
    };
    check_issuer(section, &rules);
    section.refuse_unknown();
    Some(rules)
}

/// A public client (RFC 6749 §2.2): printable ASCII without blanks, as every issuer makes them.
fn read_client_id(section: &Section<'_>) -> Option<String> {
    let id = section.string("client_id")?;
    if id.is_empty() || id.len() > 255 || !id.bytes().all(|b| b.is_ascii_graphic()) {
        section.mistake(
            "client_id",
            "must be the id of the issuer's public client that people sign in by, without blanks",
        );
    }
    Some(id)
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
    let issuer = issuer::required(section, "algorithms = [\"ES384\"]");
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
