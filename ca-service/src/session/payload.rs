//! What a grant says, in bytes. Two forms: the first, of AWS callers alone, is read by every version of the service;
//! the second has what a token told as well. Nothing here is secret, and nothing counts before its HMAC was checked.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use eic_protocol::api::session::NameStanding;
use eic_protocol::subject_key::SubjectKey;
use eic_protocol::wire::{Reader, Writer};

use super::secret::ID_LEN;
use super::{Grant, key_hash};
use crate::caller::{Caller, OidcIdentity, Proven, TokenClaims, WebIdentity};

/// First field of a grant: another version is another grant.
const FIRST: &[u8] = b"eic-grant-v1";
const SECOND: &[u8] = b"eic-grant-v2";
/// Kinds of callers in the second form.
const AWS: u8 = 1;
const OIDC: u8 = 2;

/// The moments of a grant, in Unix seconds.
#[derive(Clone, Copy)]
pub(super) struct Life {
    pub(super) from: u64,
    pub(super) until: u64,
}

pub(super) fn encode(
    secret: [u8; ID_LEN],
    caller: &Caller,
    key: &SubjectKey,
    life: Life,
) -> Vec<u8> {
    let token = caller.oidc().is_some() || caller.web_identity().is_some();
    let mut w = Writer::new();
    w.string(if token { SECOND } else { FIRST })
        .string(&secret)
        .u64(life.from)
        .u64(life.until)
        .string(&key_hash(key));
    match caller.oidc() {
        Some(identity) => write_oidc(&mut w, identity),
        None if token => write_aws(w.byte(AWS), caller),
        None => write_aws(&mut w, caller),
    }
    if let Some(shown) = caller.web_identity() {
        write_web_identity(&mut w, shown);
    }
    w.string(caller.session_id().to_string().as_bytes());
    w.into_bytes()
}

fn write_aws(w: &mut Writer, caller: &Caller) {
    let attested = u8::from(caller.standing() == NameStanding::Attested);
    let access_key_id = caller.access_key_id().map_or("", |id| id.as_str());
    w.string(caller.identity().as_bytes())
        .string(caller.user_id().as_bytes())
        .byte(attested)
        .string(access_key_id.as_bytes());
}

fn write_web_identity(w: &mut Writer, shown: &WebIdentity) {
    for optional in [&shown.role_path, &shown.organization] {
        w.string(optional.as_deref().unwrap_or_default().as_bytes());
    }
    let mut tags = Writer::new();
    for (name, value) in shown.tags.iter().flatten() {
        tags.string(name.as_bytes()).string(value.as_bytes());
    }
    w.byte(u8::from(shown.tags.is_some()))
        .string(tags.as_slice())
        .u64(shown.ends_at);
}

fn write_oidc(w: &mut Writer, identity: &OidcIdentity) {
    w.byte(OIDC)
        .string(identity.issuer.as_str().as_bytes())
        .string(identity.subject.as_bytes())
        .u64(identity.ends_at);
    identity.claims.write(w);
}

/// Whose secret made the grant, and the rest; none where it is of no known form.
pub(super) fn secret_id<'a>(reader: &mut Reader<'a>) -> Option<(Form, &'a [u8])> {
    let form = match reader.string().ok()? {
        FIRST => Form::First,
        SECOND => Form::Second,
        _ => return None,
    };
    Some((form, reader.string().ok()?))
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    First,
    Second,
}

/// `audience` is that of every token and grant of this service.
pub(super) fn decode(form: Form, mut reader: Reader<'_>, audience: &str) -> Option<Grant> {
    let (issued_at, expires_at) = (reader.u64().ok()?, reader.u64().ok()?);
    let key_hash = reader.string().ok()?.try_into().ok()?;
    let kind = match form {
        Form::First => None,
        Form::Second => Some(reader.byte().ok()?),
    };
    let caller = match kind {
        None => read_aws(&mut reader)?.finish(&mut reader)?,
        Some(AWS) => {
            let half = read_aws(&mut reader)?;
            let shown = read_web_identity(&mut reader)?;
            half.finish(&mut reader)?.with_web_identity(shown)
        }
        Some(OIDC) => {
            let identity = read_oidc(&mut reader)?;
            Caller::of_oidc(identity, audience, text(&mut reader)?.parse().ok()?)
        }
        Some(_) => return None,
    };
    reader.is_at_end().then_some(Grant {
        caller: Arc::new(caller),
        key_hash,
        issued_at,
        expires_at,
        bound: OnceLock::new(),
    })
}

/// An AWS caller without its session id, which ends every form.
struct Half<'a> {
    arn: &'a str,
    user_id: &'a str,
    standing: NameStanding,
    access_key_id: &'a str,
}

fn read_aws<'a>(reader: &mut Reader<'a>) -> Option<Half<'a>> {
    let (arn, user_id) = (text(reader)?, text(reader)?);
    let standing = if reader.byte().ok()? == 1 {
        NameStanding::Attested
    } else {
        NameStanding::Claimed
    };
    Some(Half {
        arn,
        user_id,
        standing,
        access_key_id: text(reader)?,
    })
}

impl Half<'_> {
    fn finish(self, reader: &mut Reader<'_>) -> Option<Caller> {
        Some(Caller::new(Proven {
            arn: self.arn.parse().ok()?,
            user_id: self.user_id.to_owned(),
            standing: self.standing,
            access_key_id: self.access_key_id.parse().ok()?,
            session_id: text(reader)?.parse().ok()?,
        }))
    }
}

fn read_web_identity(reader: &mut Reader<'_>) -> Option<WebIdentity> {
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let role_path = some(text(reader)?);
    let organization = some(text(reader)?);
    let known = reader.byte().ok()? == 1;
    let mut members = Reader::new(reader.string().ok()?);
    let mut tags = BTreeMap::new();
    while !members.is_at_end() {
        let name = text(&mut members)?.to_owned();
        tags.insert(name, text(&mut members)?.to_owned());
    }
    Some(WebIdentity {
        role_path,
        tags: known.then_some(tags),
        organization,
        ends_at: reader.u64().ok()?,
    })
}

fn read_oidc(reader: &mut Reader<'_>) -> Option<OidcIdentity> {
    Some(OidcIdentity {
        issuer: text(reader)?.parse().ok()?,
        subject: text(reader)?.to_owned(),
        ends_at: reader.u64().ok()?,
        claims: TokenClaims::read(reader)?,
    })
}

fn text<'a>(reader: &mut Reader<'a>) -> Option<&'a str> {
    std::str::from_utf8(reader.string().ok()?).ok()
}
