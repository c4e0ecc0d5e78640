//! `[policy]`: the policy's files and what configuration alone may decide about them.

use std::path::PathBuf;

use eic_protocol::arn::AccountId;
use eic_protocol::os_user::OsUser;

use super::document::Section;
use crate::policy::AttachedPrincipal;
use crate::web_token::issuer::Issuer;

/// `[policy]`
#[derive(Clone, Debug)]
pub struct PolicyConfig {
    /// Policies with `Principal`.
    pub files: Vec<PathBuf>,
    /// Identity policies pasted from IAM.
    pub attachments: Vec<AttachmentConfig>,
    /// Whether an Allow may name a whole account.
    pub whole_account: bool,
    /// Names with uid 0 beside `root` and `toor`.
    pub uid0_names: Vec<OsUser>,
    /// How long the running policy serves while its files cannot be loaded. Seconds.
    pub max_stale_seconds: u64,
}

/// `[[policy.attachments]]`
#[derive(Clone, Debug)]
pub struct AttachmentConfig {
    /// Whom the policy is attached to.
    pub principal: AttachedPrincipal,
    /// The identity policy.
    pub file: PathBuf,
    /// Accounts that it reaches beside the principal's own; an issuer's subject has none of its own.
    pub accounts: Vec<AccountId>,
}

pub(super) fn read(section: &Section<'_>) -> Option<PolicyConfig> {
    let files = section.paths("files");
    let attachments: Vec<_> = section
        .tables("attachments")
        .iter()
        .filter_map(attachment)
        .collect();
    let whole_account = section.flag("whole_account").unwrap_or(false);
    let uid0_names = section.list("uid0_names").unwrap_or_default();
    let max_stale_seconds = section
        .number("max_stale_seconds", 60..=604_800)
        .unwrap_or(86_400);
    if files.is_empty()
        && attachments.is_empty()
        && !section.has("files")
        && !section.has("attachments")
    {
        section.mistake("files", "no policy is named, so nobody could log in; write for example `files = [\"policy.json\"]`");
    }
    section.refuse_unknown();
    Some(PolicyConfig {
        files,
        attachments,
        whole_account,
        uid0_names,
        max_stale_seconds,
    })
}

fn attachment(section: &Section<'_>) -> Option<AttachmentConfig> {
    let principal = if section.has("issuer") {
        attached_subject(section)
    } else {
        let example = "principal = \"arn:aws:iam::111122223333:role/Dev\"";
        section
            .required("principal", example)
            .map(AttachedPrincipal::Aws)
    };
    let file = section.required_path("file", "file = \"dev.json\"");
    let accounts = section.list("accounts").unwrap_or_default();
    section.refuse_unknown();
    Some(AttachmentConfig {
        principal: principal?,
        file: file?,
        accounts,
    })
}

/// `issuer` and `subject` in place of `principal`.
fn attached_subject(section: &Section<'_>) -> Option<AttachedPrincipal> {
    let issuer = section.parsed::<Issuer>("issuer");
    let subject =
        section.required::<String>("subject", "subject = \"repo:acme/app:ref:refs/heads/main\"");
    if section.has("principal") {
        section.mistake(
            "principal",
            "name a principal of AWS, or `issuer` and `subject`, not both",
        );
    }
    Some(AttachedPrincipal::Oidc {
        issuer: issuer?.to_string(),
        subject: subject?,
    })
}
