//! `[store]` and `[keys]`: where the service keeps what must not be lost, and what it signs with.

use std::path::PathBuf;

use eic_aws::proxy::Proxy;
use eic_protocol::arn::Arn;
use eic_protocol::aws_region::AwsRegion;
use eic_protocol::subject_key::CaKey;
use eic_protocol::trust::endorsement::MAX_HOURS;
use eic_protocol::validity::MAX_BACKDATE;

use super::document::Section;
use super::endpoint;
use crate::rotation::EndorsedRules;

/// Until then even a host that asks once a day has a new key. Seconds.
const PROPAGATION: u64 = 86_400;

/// `[keys]`
#[derive(Clone, Debug)]
pub struct KeysConfig {
    /// Signs user certificates.
    pub user_ca: SignerConfig,
    /// Further user-CA keys: named in the root, ready to sign at one command.
    pub spare_user_cas: Vec<SignerConfig>,
    /// How long after its announcement hosts may not know a key. Seconds.
    pub propagation_seconds: u64,
    /// How long a user-CA key signs before a spare takes over by itself; none: only by command. Seconds.
    pub rotate_after: Option<u64>,
    /// Keys in memory that the user CA endorses; none: it signs every certificate itself.
    pub endorsed: Option<EndorsedRules>,
    /// Signs host certificates.
    pub host_ca: SignerConfig,
    /// File of the key that signs host views.
    pub bundle: PathBuf,
    /// File of the root key; none where it is kept offline.
    pub root: Option<PathBuf>,
    /// The signed root document.
    pub root_document: PathBuf,
    /// Files of the grants' secrets: the first makes grants, the others still verify them.
    pub grant_secrets: Vec<PathBuf>,
}

/// Where a CA key is.
#[derive(Clone, Debug)]
pub enum SignerConfig {
    /// In a file.
    Local {
        /// OpenSSH or PKCS#8 private key, mode 0600.
        file: PathBuf,
    },
    /// In AWS KMS.
    Kms(Box<KmsKey>),
}

/// A key in AWS KMS.
#[derive(Clone, Debug)]
pub struct KmsKey {
    /// The key's ARN; never an alias.
    pub arn: Arn,
    /// Its Region.
    pub region: AwsRegion,
    /// Another endpoint than the Region's own; plain HTTP on loopback only.
    pub endpoint: Option<String>,
    /// What GetPublicKey must answer.
    pub public_key: Option<CaKey>,
    /// What KMS, and the service's credentials for it, are asked for through.
    pub proxy: Option<Proxy>,
}

impl KeysConfig {
    /// With every key of KMS behind this proxy.
    pub(super) fn through(mut self, proxy: Option<&Proxy>) -> Self {
        let own = [&mut self.user_ca, &mut self.host_ca];
        for signer in own.into_iter().chain(&mut self.spare_user_cas) {
            if let SignerConfig::Kms(key) = signer {
                key.proxy = proxy.cloned();
            }
        }
        self
    }
}

pub(super) fn read_store(section: &Section<'_>) -> Option<PathBuf> {
    let path = section.required_path("path", "path = \"eic-ca.db\"");
    section.refuse_unknown();
    path
}

pub(super) fn read(section: &Section<'_>) -> Option<KeysConfig> {
    let user_ca = signer(section, "user_ca");
    let host_ca = signer(section, "host_ca");
    let spares = section.tables("spare_user_cas");
    let spare_user_cas = spares.iter().filter_map(signer_of).collect();
    let propagation = section.number("propagation_seconds", 0..=30 * 86_400);
    let propagation = propagation.unwrap_or(PROPAGATION);
    let rotate_after = section.number("rotate_after_days", 1..=3_650);
    let endorsed = section
        .table("endorsed")
        .map(|section| read_endorsed(&section, propagation));
    let bundle = section.required_path("bundle", "bundle = \"keys/bundle\"");
    let root = section.path("root");
    let root_document =
        section.required_path("root_document", "root_document = \"keys/root.json\"");
    let grant_secrets = section.paths("grant_secrets");
    if !(1..=2).contains(&grant_secrets.len()) {
        section.mistake(
            "grant_secrets",
            "name one file, or two while a secret is being replaced: `grant_secrets = [\"keys/grant-secret\"]`",
        );
    }
    section.refuse_unknown();
    Some(KeysConfig {
        user_ca: user_ca?,
        spare_user_cas,
        propagation_seconds: propagation,
        rotate_after: rotate_after.map(|days| days * 86_400),
        endorsed,
        host_ca: host_ca?,
        bundle: bundle?,
        root,
        root_document: root_document?,
        grant_secrets,
    })
}

/// How long a key in memory signs before the next one does. Seconds.
const SIGN: u64 = 12 * 3_600;
/// For how long after that it still counts: the longest certificate. Seconds.
const OVERLAP: u64 = 12 * 3_600;

/// `endorsed = { … }`: every member has a default.
fn read_endorsed(section: &Section<'_>, propagation: u64) -> EndorsedRules {
    let number = |key, range, default| section.number(key, range).unwrap_or(default);
    let propagation = number("propagation_seconds", 0..=30 * 86_400, propagation);
    let sign = number("sign_seconds", 60..=MAX_HOURS, SIGN);
    let least = propagation.div_ceil(sign).max(1);
    let rules = EndorsedRules {
        sign,
        // Two minutes before its end a key begins no certificate any more.
        overlap: number("overlap_seconds", 120..=MAX_HOURS, OVERLAP),
        ahead: number("ahead", 1..=8, least),
        propagation,
    };
    if rules.sign + rules.overlap + MAX_BACKDATE > MAX_HOURS {
        section.mistake(
            "overlap_seconds",
            format!(
                "is too much with `sign_seconds`: hosts take a key for at most {MAX_HOURS} seconds"
            ),
        );
    }
    if rules.ahead < least || rules.ahead > 8 {
        section.mistake(
            "ahead",
            format!("must be at least {least} and at most 8: the next key is needed before hosts can know it (`propagation_seconds`); or raise `sign_seconds`"),
        );
    }
    section.refuse_unknown();
    rules
}

#[derive(Clone, Copy)]
enum Kind {
    Local,
    Kms,
}

fn signer(keys: &Section<'_>, key: &str) -> Option<SignerConfig> {
    if !keys.has(key) {
        keys.mistake(key, format!("is missing; write for example `{key} = {{ signer = \"local\", file = \"keys/{key}\" }}`"));
    }
    signer_of(&keys.table(key)?)
}

fn signer_of(section: &Section<'_>) -> Option<SignerConfig> {
    if !section.has("signer") {
        section.mistake(
            "signer",
            "is missing; write `signer = \"local\"` or `signer = \"kms\"`",
        );
    }
    let config = match section.word("signer", &[("local", Kind::Local), ("kms", Kind::Kms)])? {
        Kind::Local => section
            .required_path("file", "file = \"keys/user-ca\"")
            .map(|file| SignerConfig::Local { file }),
        Kind::Kms => kms(section).map(|key| SignerConfig::Kms(Box::new(key))),
    };
    section.refuse_unknown();
    config
}

fn kms(section: &Section<'_>) -> Option<KmsKey> {
    let arn = section.required::<Arn>("arn", "arn = \"arn:aws:kms:eu-west-1:111122223333:key/…\"");
    let region = section.required::<AwsRegion>("region", "region = \"eu-west-1\"");
    let endpoint = endpoint::read(section, "endpoint");
    let public_key = section.parsed("public_key");
    if let (Some(arn), Some(region)) = (&arn, region) {
        check_arn(section, arn, region);
    }
    Some(KmsKey {
        arn: arn?,
        region: region?,
        endpoint,
        public_key,
        proxy: None,
    })
}

/// An alias could be pointed at another key by whoever may change aliases.
fn check_arn(section: &Section<'_>, arn: &Arn, region: AwsRegion) {
    if arn.service != "kms" || !arn.resource.starts_with("key/") || arn.account.is_none() {
        section.mistake(
            "arn",
            "must be the ARN of a key, `arn:aws:kms:REGION:ACCOUNT:key/ID`, not of an alias",
        );
    } else if arn.region != region.as_str() {
        section.mistake(
            "region",
            format!("is not the Region of the ARN, `{}`", arn.region),
        );
    }
}
