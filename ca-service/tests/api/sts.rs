//! A stand-in for STS that judges signatures as AWS does.

use aws_credential_types::Credentials;
use eic_aws::sigv4::{Scope, sign_request};
use eic_ca::clock::Clock;
use http::Request;

use crate::http_stub::{HttpStub, Received, response};

/// Credentials, and whom STS knows by them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Identity {
    pub(crate) key: &'static str,
    pub(crate) secret: &'static str,
    pub(crate) token: Option<&'static str>,
    pub(crate) arn: &'static str,
    pub(crate) user_id: &'static str,
}

pub(crate) const ALICE: Identity = Identity {
    key: "ASIAALICEALICEALICE1",
    secret: "canary-secret-of-alice",
    token: Some("Y2FuYXJ5LXRva2VuLW9mLWFsaWNl"),
    arn: "arn:aws:sts::111122223333:assumed-role/Dev/alice",
    user_id: "AROA0123456789ABCDEF:alice",
};

/// Another session of the same role.
pub(crate) const MALLORY: Identity = Identity {
    key: "ASIAMALLORYMALLORY01",
    secret: "canary-secret-of-mallory",
    token: Some("Y2FuYXJ5LXRva2VuLW9mLW1hbGxvcnk="),
    arn: "arn:aws:sts::111122223333:assumed-role/Dev/mallory",
    user_id: "AROA0123456789ABCDEF:mallory",
};

/// A user whom no policy names.
pub(crate) const BOB: Identity = Identity {
    key: "AKIABOBBOBBOBBOBBOB1",
    secret: "canary-secret-of-bob",
    token: None,
    arn: "arn:aws:iam::111122223333:user/bob",
    user_id: "AIDABOB0123456789ABCD",
};

/// Who may revoke, where a test's policy says so.
pub(crate) const OFFICER: Identity = Identity {
    key: "ASIAOFFICEROFFICER01",
    secret: "canary-secret-of-an-officer",
    token: Some("Y2FuYXJ5LXRva2VuLW9mLWFuLW9mZmljZXI="),
    arn: "arn:aws:sts::111122223333:assumed-role/Officer/olga",
    user_id: "AROA9999999999ABCDEF:olga",
};

/// Somebody of an account that is not accepted.
pub(crate) const STRANGER: Identity = Identity {
    key: "AKIASTRANGERSTRANGER",
    secret: "canary-secret-of-a-stranger",
    token: None,
    arn: "arn:aws:iam::999922223333:user/stranger",
    user_id: "AIDASTRANGER012345678",
};

/// The role of an instance.
pub(crate) const INSTANCE: Identity = Identity {
    key: "ASIAINSTANCEINSTANCE",
    secret: "canary-secret-of-an-instance",
    token: Some("Y2FuYXJ5LXRva2VuLW9mLWFuLWluc3RhbmNl"),
    arn: "arn:aws:sts::111122223333:assumed-role/Web/i-0123456789abcdef0",
    user_id: "AROAWEB0123456789ABC:i-0123456789abcdef0",
};

/// The same role on another instance.
pub(crate) const OTHER_INSTANCE: Identity = Identity {
    key: "ASIAOTHERINSTANCE001",
    secret: "canary-secret-of-another-instance",
    token: Some("Y2FuYXJ5LXRva2VuLW9mLWFub3RoZXI="),
    arn: "arn:aws:sts::111122223333:assumed-role/Web/i-0123456789abcdef1",
    user_id: "AROAWEB0123456789ABC:i-0123456789abcdef1",
};

const EVERYBODY: [Identity; 7] = [
    ALICE,
    MALLORY,
    BOB,
    OFFICER,
    STRANGER,
    INSTANCE,
    OTHER_INSTANCE,
];

/// One of many sessions of the role `Dev`, each under a name that its holder made up.
pub(crate) fn made_up_session(n: usize) -> Identity {
    let text = |text: String| -> &'static str { Box::leak(text.into_boxed_str()) };
    Identity {
        key: text(format!("{MADE_UP}{n:04}")),
        arn: text(format!(
            "arn:aws:sts::111122223333:assumed-role/Dev/made-up-{n}"
        )),
        user_id: text(format!("AROA0123456789ABCDEF:made-up-{n}")),
        ..ALICE
    }
}

/// How the key ids of made-up sessions begin.
const MADE_UP: &str = "ASIAMADEUPMADEUP";

/// Whose key signed a request with this header.
fn identity_of(authorization: &str) -> Option<Identity> {
    let key = authorization
        .split("Credential=")
        .nth(1)?
        .split('/')
        .next()?;
    match key.strip_prefix(MADE_UP) {
        Some(number) => Some(made_up_session(number.parse().ok()?)),
        None => EVERYBODY.into_iter().find(|known| known.key == key),
    }
}

impl Identity {
    pub(crate) fn credentials(&self) -> Credentials {
        Credentials::new(
            self.key,
            self.secret,
            self.token.map(str::to_owned),
            None,
            "test",
        )
    }
}

/// Starts it; its answers carry the date of `clock`.
pub(crate) async fn start(clock: Clock) -> HttpStub {
    HttpStub::start(move |request| judge(request, clock.now())).await
}

/// STS's verdict.
pub(crate) fn judge(request: &Received, now: u64) -> Vec<u8> {
    let authorization = request.header("authorization").unwrap_or_default();
    let Some(identity) = identity_of(&authorization) else {
        return refusal(403, now, "InvalidClientTokenId");
    };
    if request.header("x-amz-security-token").as_deref() != identity.token {
        return refusal(403, now, "InvalidClientTokenId");
    }
    if signed_again(request, &identity).as_deref() != Some(authorization.as_str()) {
        return refusal(403, now, "SignatureDoesNotMatch");
    }
    response(200, now, &caller_identity(identity.arn, identity.user_id))
}

/// The answer to GetCallerIdentity.
pub(crate) fn caller_identity(arn: &str, user_id: &str) -> String {
    let account = arn.split(':').nth(4).unwrap();
    format!(
        "<GetCallerIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\n  <GetCallerIdentityResult>\n    \
         <Arn>{arn}</Arn>\n    <UserId>{user_id}</UserId>\n    <Account>{account}</Account>\n  </GetCallerIdentityResult>\n  \
         <ResponseMetadata>\n    <RequestId>01234567-89ab-cdef-0123-456789abcdef</RequestId>\n  </ResponseMetadata>\n\
         </GetCallerIdentityResponse>\n"
    )
}

/// An error as STS writes it.
pub(crate) fn refusal(status: u16, now: u64, code: &str) -> Vec<u8> {
    let body = format!(
        "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><Error><Type>Sender</Type><Code>{code}</Code>\
         <Message>no</Message></Error><RequestId>1</RequestId></ErrorResponse>"
    );
    response(status, now, &body)
}

/// The `authorization` that the holder of the secret would have sent with these headers and this body.
fn signed_again(request: &Received, identity: &Identity) -> Option<String> {
    let host = request.header("host")?;
    let date: jiff::civil::DateTime =
        jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", request.header("x-amz-date")?).ok()?;
    let now = u64::try_from(
        date.to_zoned(jiff::tz::TimeZone::UTC)
            .ok()?
            .timestamp()
            .as_second(),
    )
    .ok()?;
    let region = host.split('.').nth(1)?.parse().ok()?;
    let mut again = Request::post(format!("https://{host}/"))
        .body(request.body.clone().into_bytes())
        .ok()?;
    for name in ["content-type", "host", "x-eic-audience", "x-eic-request"] {
        again
            .headers_mut()
            .insert(name, request.header(name)?.parse().ok()?);
    }
    let credentials = identity.credentials();
    sign_request(
        &Scope {
            credentials: &credentials,
            region,
            service: "sts",
            now,
        },
        &mut again,
    )
    .ok()?;
    again
        .headers()
        .get("authorization")?
        .to_str()
        .ok()
        .map(str::to_owned)
}
