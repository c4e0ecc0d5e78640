//! What a client signs: the canonical bytes of a request, and the proofs of an identity: the STS request of an
//! AWS identity, the token of an OpenID Connect issuer.
//! Both ends build them from parsed fields; neither forwards what the other sent.

use std::fmt;

use sha2::{Digest as _, Sha256};

use crate::wire::Writer;

pub mod audience;
pub mod aws_sts;
pub mod oidc;

pub use audience::Audience;

/// First field of every canonical request.
const CONTEXT: &[u8] = b"eic-request-v1";

/// A route of the API, as it enters the signed bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Route {
    /// `POST /v1/sessions`
    Sessions,
    /// `POST /v1/certificates/user`
    UserCertificates,
    /// `GET /v1/instances`
    Instances,
    /// `POST /v1/events`
    Events,
    /// `POST /v1/revocations`
    Revocations,
    /// `POST /v1/certificates/host`
    HostCertificates,
    /// `POST /v1/hosts/certify`
    HostCertification,
    /// `POST /v1/hosts/keys`
    HostKeys,
    /// `POST /v1/hosts/report`
    HostReports,
}

impl Route {
    /// Method and path.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sessions => "POST /v1/sessions",
            Self::UserCertificates => "POST /v1/certificates/user",
            Self::Instances => "GET /v1/instances",
            Self::Events => "POST /v1/events",
            Self::Revocations => "POST /v1/revocations",
            Self::HostCertificates => "POST /v1/certificates/host",
            Self::HostCertification => "POST /v1/hosts/certify",
            Self::HostKeys => "POST /v1/hosts/keys",
            Self::HostReports => "POST /v1/hosts/report",
        }
    }

    /// The path alone.
    #[must_use]
    pub fn path(self) -> &'static str {
        self.as_str().split_once(' ').map_or("", |(_, path)| path)
    }
}

/// A request whose parsed fields can be signed.
pub trait Signed {
    /// The route that the request is for.
    const ROUTE: Route;

    /// Appends every field in declared order, absent ones included.
    fn fields(&self, fields: &mut Fields);
}

/// The fields of a request in canonical form: each an SSH string, so that none can run into the next.
#[derive(Default)]
pub struct Fields(Writer);

impl Fields {
    /// A field that is always there.
    pub fn required(&mut self, value: impl AsRef<[u8]>) -> &mut Self {
        self.0.string(value.as_ref());
        self
    }

    /// A field that may be absent; absent differs from empty.
    pub fn optional(&mut self, value: Option<impl AsRef<[u8]>>) -> &mut Self {
        match value {
            None => self.0.byte(0),
            Some(value) => self.0.byte(1).string(value.as_ref()),
        };
        self
    }

    /// A list in the order given.
    pub fn list<T: AsRef<[u8]>>(&mut self, values: impl IntoIterator<Item = T>) -> &mut Self {
        let mut items = Writer::new();
        for value in values {
            items.string(value.as_ref());
        }
        self.0.string(items.as_slice());
        self
    }

    /// A list of records in the order given, each with fields of its own.
    pub fn records<T>(
        &mut self,
        records: impl IntoIterator<Item = T>,
        write: impl Fn(T, &mut Self),
    ) -> &mut Self {
        self.list(records.into_iter().map(|record| {
            let mut fields = Self::default();
            write(record, &mut fields);
            fields.0.into_bytes()
        }))
    }
}

/// The canonical bytes of one request for one audience.
#[derive(Clone, PartialEq, Eq)]
pub struct CanonicalRequest(Vec<u8>);

impl CanonicalRequest {
    /// Of a request that carries an identity proof.
    #[must_use]
    pub fn of<R: Signed>(audience: &Audience, request: &R) -> Self {
        Self::build(audience, request, |_| {})
    }

    /// Of a request that carries a session grant: bound to a moment and a nonce as well.
    /// `time` is in Unix seconds.
    #[must_use]
    pub fn of_granted<R: Signed>(
        audience: &Audience,
        time: u64,
        nonce: &[u8],
        request: &R,
    ) -> Self {
        Self::build(audience, request, |w| {
            w.u64(time).string(nonce);
        })
    }

    fn build<R: Signed>(
        audience: &Audience,
        request: &R,
        moment: impl FnOnce(&mut Writer),
    ) -> Self {
        let mut w = Writer::new();
        w.string(CONTEXT)
            .string(R::ROUTE.as_str().as_bytes())
            .string(audience.as_str().as_bytes());
        moment(&mut w);
        let mut fields = Fields::default();
        request.fields(&mut fields);
        w.raw(fields.0.as_slice());
        Self(w.into_bytes())
    }

    /// The bytes that the bound SSH key signs.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        &self.0
    }

    /// SHA-256 of the bytes: the value of `x-eic-request`.
    #[must_use]
    pub fn digest(&self) -> RequestDigest {
        RequestDigest(Sha256::digest(&self.0).into())
    }
}

impl fmt::Debug for CanonicalRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.digest(), f)
    }
}

/// SHA-256 of a canonical request.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestDigest([u8; 32]);

impl RequestDigest {
    /// 64 lower-case hex digits.
    #[must_use]
    pub fn to_hex(self) -> String {
        hex::encode(self.0)
    }
}

impl fmt::Debug for RequestDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_hex())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Sample(&'static [u8], Option<&'static [u8]>);

    impl Signed for Sample {
        const ROUTE: Route = Route::UserCertificates;

        fn fields(&self, fields: &mut Fields) {
            fields.required(self.0).optional(self.1);
        }
    }

    fn digest(request: &Sample, audience: &str) -> RequestDigest {
        CanonicalRequest::of(&audience.parse().unwrap(), request).digest()
    }

    #[test]
    fn moving_a_byte_between_fields_changes_the_digest() {
        let a = "https://ca.example";
        assert_ne!(
            digest(&Sample(b"ab", Some(b"c")), a),
            digest(&Sample(b"a", Some(b"bc")), a)
        );
        assert_ne!(
            digest(&Sample(b"ab", Some(b"")), a),
            digest(&Sample(b"ab", None), a)
        );
    }

    #[test]
    fn another_audience_time_or_nonce_changes_the_bytes() {
        //
        let request = Sample(b"a", None);
        assert_ne!(
            digest(&request, "https://ca.example"),
            digest(&request, "https://staging.example")
        );
        let audience = "https://ca.example".parse().unwrap();
        let granted = |t, n: &[u8]| CanonicalRequest::of_granted(&audience, t, n, &request);
        assert_ne!(granted(1, b"n"), granted(2, b"n"));
        assert_ne!(granted(1, b"n"), granted(1, b"m"));
        assert_ne!(granted(1, b"n"), CanonicalRequest::of(&audience, &request));
    }
}
