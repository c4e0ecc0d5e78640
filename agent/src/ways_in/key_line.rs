//! One line of an authorized_keys or TrustedUserCAKeys file (sshd(8), AUTHORIZED_KEYS FILE FORMAT), as far as it is
//! shown: options, type, fingerprint, comment. Whether the key is a good one is not asked here.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use eic_protocol::wire::Reader;
use ring::digest::{SHA256, digest};

/// A line with a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct KeyLine {
    pub(super) options: Option<String>,
    pub(super) kind: String,
    pub(super) blob: Vec<u8>,
    pub(super) comment: String,
}

impl KeyLine {
    /// Reads a line; `None` where sshd finds no key in it either.
    pub(super) fn parse(line: &str) -> Option<Self> {
        let line = line.trim_matches([' ', '\t', '\r']);
        if line.is_empty() || line.starts_with('#') {
            return None;
        }
        // As sshd does: a key first; where there is none, options and then a key.
        Self::without_options(line).or_else(|| {
            let (options, rest) = split_options(line)?;
            let found = Self::without_options(rest.trim_start_matches([' ', '\t']))?;
            Some(Self {
                options: Some(options.to_owned()),
                ..found
            })
        })
    }

    fn without_options(text: &str) -> Option<Self> {
        let (kind, rest) = text.split_once([' ', '\t'])?;
        let rest = rest.trim_start_matches([' ', '\t']);
        let (encoded, comment) = rest.split_once([' ', '\t']).unwrap_or((rest, ""));
        let blob = STANDARD.decode(encoded).ok()?;
        let is_that_kind = Reader::new(&blob)
            .string()
            .is_ok_and(|name| name == kind.as_bytes());
        is_that_kind.then(|| Self {
            options: None,
            kind: kind.to_owned(),
            blob: blob.clone(),
            comment: comment.trim().to_owned(),
        })
    }

    /// Whether it lets in every certificate that this key signs.
    pub(super) fn is_authority(&self) -> bool {
        let options = self.options.as_deref().unwrap_or_default();
        let mut quoted = false;
        let split = options.split(|c| {
            quoted ^= c == '"';
            c == ',' && !quoted
        });
        split
            .into_iter()
            .any(|option| option.eq_ignore_ascii_case("cert-authority"))
    }

    /// `type fingerprint comment`
    pub(super) fn shown(&self) -> String {
        let hash = STANDARD_NO_PAD.encode(digest(&SHA256, &self.blob));
        let shown = format!("{} SHA256:{hash} {}", self.kind, self.comment);
        shown.trim_end().to_owned()
    }

    /// The bits of an RSA key.
    pub(super) fn rsa_bits(&self) -> Option<usize> {
        let mut reader = Reader::new(&self.blob);
        let is_rsa = reader.string().ok()? == b"ssh-rsa";
        let _exponent = reader.string().ok()?;
        let modulus = reader.string().ok()?;
        let digits = modulus
            .iter()
            .position(|byte| *byte != 0)
            .map_or(0, |zeros| modulus.len() - zeros);
        is_rsa.then_some(digits * 8)
    }
}

/// Splits at the first blank outside quotes; a backslash takes the quote's meaning away.
fn split_options(line: &str) -> Option<(&str, &str)> {
    let (mut quoted, mut escaped) = (false, false);
    let end = line.find(|c: char| {
        let is_end = !quoted && (c == ' ' || c == '\t');
        quoted ^= c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        is_end
    })?;
    line.split_at_checked(end)
}
