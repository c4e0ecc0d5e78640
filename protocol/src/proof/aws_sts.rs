//! The one STS request that proves an AWS identity, rebuilt from the fields that a client sends.
//! Action, host, path, headers and body are constants or table entries here: another request
//! cannot be expressed (design rule 1; the failure of CVE-2020-16250 was to forward one).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{Audience, RequestDigest};
use crate::aws_region::AwsRegion;
use crate::secret::Secret;
use crate::text::printable;

/// The body of the request, byte for byte.
pub const BODY: &str = "Action=GetCallerIdentity&Version=2011-06-15";
/// The body's media type, as signed.
pub const CONTENT_TYPE: &str = "application/x-www-form-urlencoded; charset=utf-8";
/// Signed header with the audience.
pub const AUDIENCE_HEADER: &str = "x-eic-audience";
/// Signed header with the request's digest.
pub const REQUEST_HEADER: &str = "x-eic-request";
/// Oldest proof that is accepted, and the farthest into the future. Seconds. (STS itself takes 15 minutes.)
pub const MAX_AGE: u64 = 300;
/// Longest session token that is read; AWS advises to expect no limit, real ones stay under 4 KiB.
const MAX_TOKEN: usize = 8192;

/// What the client sends: fields only.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AwsStsProof {
    /// The Region whose STS endpoint the request was signed for.
    pub region: AwsRegion,
    /// The access key id of the credentials.
    pub access_key_id: AccessKeyId,
    /// `x-amz-date`.
    pub date: AmzDate,
    /// The SigV4 signature.
    pub signature: SigV4Signature,
    /// `x-amz-security-token`, where the credentials have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_token: Option<SessionToken>,
}

/// The rebuilt request: all that is sent to STS.
#[derive(Debug)]
pub struct StsRequest {
    /// The endpoint's host, from the table.
    pub host: String,
    /// Header names and values in the order of the signature, `authorization` last.
    pub headers: Vec<(&'static str, Secret<String>)>,
}

impl AwsStsProof {
    /// Rebuilds the request that this proof must have been signed over.
    #[must_use]
    pub fn rebuild(&self, audience: &Audience, digest: RequestDigest) -> StsRequest {
        let host = self.region.endpoint("sts");
        let mut headers = self.signed_headers(&host, audience, digest);
        let names: Vec<_> = headers.iter().map(|(name, _)| *name).collect();
        headers.push((
            "authorization",
            Secret::new(self.authorization(&names.join(";"))),
        ));
        StsRequest { host, headers }
    }

    fn signed_headers(
        &self,
        host: &str,
        audience: &Audience,
        digest: RequestDigest,
    ) -> Vec<(&'static str, Secret<String>)> {
        let mut headers = vec![
            ("content-type", CONTENT_TYPE.to_owned()),
            ("host", host.to_owned()),
            ("x-amz-date", self.date.to_string()),
        ];
        if let Some(token) = &self.session_token {
            headers.push(("x-amz-security-token", token.0.reveal().clone()));
        }
        headers.push((AUDIENCE_HEADER, audience.to_string()));
        headers.push((REQUEST_HEADER, digest.to_hex()));
        headers
            .into_iter()
            .map(|(name, value)| (name, Secret::new(value)))
            .collect()
    }

    fn authorization(&self, signed_headers: &str) -> String {
        format!(
            "AWS4-HMAC-SHA256 Credential={}/{}/{}/sts/aws4_request, SignedHeaders={signed_headers}, Signature={}",
            self.access_key_id,
            self.date.day(),
            self.region,
            self.signature.0.reveal(),
        )
    }
}

/// `[A-Z0-9]{16,128}` (IAM API reference, AccessKey).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AccessKeyId(String);

impl AccessKeyId {
    /// The id.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for AccessKeyId {
    type Err = InvalidProof;

    fn from_str(text: &str) -> Result<Self, InvalidProof> {
        let grammar = text
            .bytes()
            .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit());
        if grammar && (16..=128).contains(&text.len()) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidProof::AccessKeyId)
        }
    }
}

impl fmt::Display for AccessKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A moment as SigV4 writes it: `YYYYMMDDTHHMMSSZ`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AmzDate {
    text: String,
    unix: u64,
}

impl AmzDate {
    /// `YYYYMMDD`, the date of the credential scope.
    #[must_use]
    pub fn day(&self) -> &str {
        self.text.get(..8).unwrap_or_default()
    }

    /// Unix seconds.
    #[must_use]
    pub fn unix(&self) -> u64 {
        self.unix
    }

    /// Whether the moment lies within five minutes of `now` (Unix seconds), before or after.
    #[must_use]
    pub fn is_fresh(&self, now: u64) -> bool {
        self.unix.abs_diff(now) <= MAX_AGE
    }
}

impl FromStr for AmzDate {
    type Err = InvalidProof;

    fn from_str(text: &str) -> Result<Self, InvalidProof> {
        let unix = parse_date(text).ok_or_else(|| InvalidProof::Date(printable(text)))?;
        Ok(Self {
            text: text.to_owned(),
            unix,
        })
    }
}

fn parse_date(text: &str) -> Option<u64> {
    let form = text.len() == 16
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 => byte == b'T',
            15 => byte == b'Z',
            _ => byte.is_ascii_digit(),
        });
    let number = |from: usize, to: usize| text.get(from..to)?.parse::<u64>().ok();
    let (year, month, day) = (number(0, 4)?, number(4, 6)?, number(6, 8)?);
    let (hour, minute, second) = (number(9, 11)?, number(11, 13)?, number(13, 15)?);
    let in_range = (1970..=9999).contains(&year) && hour < 24 && minute < 60 && second < 60;
    let days = days_since_1970(year, month, day)?;
    (form && in_range).then(|| ((days * 24 + hour) * 60 + minute) * 60 + second)
}

fn days_since_1970(year: u64, month: u64, day: u64) -> Option<u64> {
    let leap = |y: u64| y.is_multiple_of(4) && (!y.is_multiple_of(100) || y.is_multiple_of(400));
    let february = if leap(year) { 29 } else { 28 };
    let lengths = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let index = usize::try_from(month.checked_sub(1)?).ok()?;
    let in_month = (1..=*lengths.get(index)?).contains(&day);
    let before: u64 = (1970..year).map(|y| if leap(y) { 366 } else { 365 }).sum();
    let months: u64 = lengths.get(..index)?.iter().sum();
    in_month.then(|| before + months + day - 1)
}

impl fmt::Display for AmzDate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// 64 lower-case hex digits.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SigV4Signature(Secret<String>);

impl FromStr for SigV4Signature {
    type Err = InvalidProof;

    fn from_str(text: &str) -> Result<Self, InvalidProof> {
        let grammar = text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if grammar && text.len() == 64 {
            Ok(Self(Secret::new(text.to_owned())))
        } else {
            Err(InvalidProof::Signature)
        }
    }
}

/// Base64 text, at most 8 KiB: nothing that could end a header line.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SessionToken(Secret<String>);

impl FromStr for SessionToken {
    type Err = InvalidProof;

    fn from_str(text: &str) -> Result<Self, InvalidProof> {
        let grammar = text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"+/=_-".contains(&b));
        if grammar && (1..=MAX_TOKEN).contains(&text.len()) {
            Ok(Self(Secret::new(text.to_owned())))
        } else {
            Err(InvalidProof::Token)
        }
    }
}

macro_rules! as_json_string {
    ($($name:ident => |$value:ident| $text:expr;)*) => {$(
        impl TryFrom<String> for $name {
            type Error = InvalidProof;

            fn try_from(text: String) -> Result<Self, InvalidProof> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from($value: $name) -> Self {
                $text
            }
        }
    )*};
}

as_json_string! {
    AccessKeyId => |id| id.0;
    AmzDate => |date| date.text;
    SigV4Signature => |signature| signature.0.reveal().clone();
    SessionToken => |token| token.0.reveal().clone();
}

/// A field of a proof is not of its form. The secret ones are not repeated.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidProof {
    /// `access_key_id`.
    #[error("the access key id is not 16 to 128 upper-case letters and digits")]
    AccessKeyId,
    /// `date`.
    #[error("`{0}` is not a date of the form YYYYMMDDTHHMMSSZ")]
    Date(String),
    /// `signature`.
    #[error("the request signature is not 64 lower-case hex digits")]
    Signature,
    /// `session_token`.
    #[error("the session token is not base64 text of at most {MAX_TOKEN} characters")]
    Token,
}

#[cfg(test)]
mod tests;
