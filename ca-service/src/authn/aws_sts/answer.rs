//! STS's answer, read so strictly that only the documented form of GetCallerIdentity passes.
//! A lenient reader found the answer of another action inside its text once (CVE-2020-16250).

use eic_aws::error::is_throttling;
use eic_aws::query::Element;
use eic_protocol::arn::{CallerArn, Identity};
use eic_protocol::text::printable;
use quick_xml::events::{BytesStart, Event};
use quick_xml::reader::Reader;

use super::transport::{StsAnswer, unavailable};
use crate::authn::{AuthnError, Refusal};

/// Namespace of the STS API, version 2011-06-15.
const NAMESPACE: &str = "https://sts.amazonaws.com/doc/2011-06-15/";

/// Who STS says the caller is.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct StsIdentity {
    pub(super) arn: CallerArn,
    pub(super) user_id: String,
}

pub(super) fn read(answer: &StsAnswer) -> Result<StsIdentity, AuthnError> {
    let text =
        std::str::from_utf8(&answer.body).map_err(|_| unavailable("the answer is not UTF-8"))?;
    if answer.status != 200 {
        return Err(refusal(answer.status, text));
    }
    // A caller that cannot be parsed is a kind that this CA does not let in (threats A-30).
    let fields =
        parse(text).ok_or_else(|| unavailable("the answer is not of the documented form"))?;
    agreed(&fields).ok_or_else(|| {
        tracing::warn!(
            arn = printable(&fields.arn),
            "STS named a caller that cannot be used"
        );
        AuthnError::Refused(Refusal::Other("a caller of an unknown kind".to_owned()))
    })
}

/// The three statements about the caller must be about the same one.
fn agreed(fields: &Fields) -> Option<StsIdentity> {
    let arn: CallerArn = fields.arn.parse().ok()?;
    let same_account = arn.account().as_str() == fields.account;
    let same_id = arn.agrees_with_user_id(&fields.user_id) || is_user_id(&arn, &fields.user_id);
    (same_account && same_id).then(|| StsIdentity {
        arn,
        user_id: fields.user_id.clone(),
    })
}

/// STS stand-ins give IAM users ids without AWS's prefix `AIDA`. What matters is that the id cannot be
/// that of another kind: no colon, no prefix of a role.
fn is_user_id(arn: &CallerArn, id: &str) -> bool {
    let plain = id.bytes().all(|b| b.is_ascii_alphanumeric()) && (16..=128).contains(&id.len());
    matches!(arn.identity(), Identity::User { .. }) && plain && !id.starts_with("AROA")
}

fn refusal(status: u16, text: &str) -> AuthnError {
    let code = Element::parse(text).ok().and_then(|root| {
        root.find("Error")
            .and_then(|error| error.child_text("Code"))
            .map(str::to_owned)
    });
    match code.as_deref() {
        _ if status >= 500 => unavailable(format!("STS answered {status}")),
        Some("SignatureDoesNotMatch") => AuthnError::Refused(Refusal::Signature),
        Some("InvalidClientTokenId") => AuthnError::Refused(Refusal::UnknownKey),
        Some("ExpiredToken" | "ExpiredTokenException") => AuthnError::Refused(Refusal::Expired),
        Some(code) if is_throttling(code) => unavailable("STS is throttling"),
        Some(code) if (400..500).contains(&status) => {
            AuthnError::Refused(Refusal::Other(printable(code)))
        }
        _ => unavailable(format!("STS answered {status} in an unknown form")),
    }
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Fields {
    arn: String,
    user_id: String,
    account: String,
}

const RESPONSE: &str = "GetCallerIdentityResponse";
const RESULT: &str = "GetCallerIdentityResult";
const METADATA: &str = "ResponseMetadata";

/// The one form: `Response{Result{Arn,UserId,Account}, Metadata{RequestId}}`, each at most once,
/// no attribute but the root's namespace, no prefix, entity, comment, CDATA, instruction or document type.
fn parse(text: &str) -> Option<Fields> {
    let mut reader = Reader::from_str(text);
    let mut open: Vec<String> = Vec::new();
    let mut seen: Vec<String> = Vec::new();
    let mut fields = Fields::default();
    loop {
        match reader.read_event().ok()? {
            Event::Decl(_) if seen.is_empty() => {}
            Event::Start(start) => {
                open.push(element(&start, open.is_empty())?);
                let path = open.join("/");
                if !is_known(&path) || seen.contains(&path) {
                    return None;
                }
                seen.push(path);
            }
            Event::End(_) => {
                open.pop()?;
            }
            Event::Text(text) => take_text(&open.join("/"), &text, &mut fields)?,
            Event::Eof => break,
            _ => return None,
        }
    }
    let complete = open.is_empty()
        && [&fields.arn, &fields.user_id, &fields.account]
            .iter()
            .all(|f| !f.is_empty());
    complete.then_some(fields)
}

fn element(start: &BytesStart<'_>, is_root: bool) -> Option<String> {
    let mut attributes = start.attributes();
    if is_root {
        let xmlns = attributes.next()?.ok()?;
        let ours = xmlns.key.as_ref() == "xmlns" && xmlns.value.as_ref() == NAMESPACE;
        ours.then_some(())?;
    }
    attributes
        .next()
        .is_none()
        .then(|| start.name().as_ref().to_owned())
}

fn is_known(path: &str) -> bool {
    let mut parts = path.split('/');
    let root = parts.next() == Some(RESPONSE);
    let inner = match (parts.next(), parts.next()) {
        (None, _) | (Some(RESULT | METADATA), None) => true,
        (Some(RESULT), Some(leaf)) => matches!(leaf, "Arn" | "UserId" | "Account"),
        (Some(METADATA), Some(leaf)) => leaf == "RequestId",
        _ => false,
    };
    root && inner && parts.next().is_none()
}

fn take_text(path: &str, text: &str, fields: &mut Fields) -> Option<()> {
    let field = match path.rsplit('/').next() {
        Some("Arn") => &mut fields.arn,
        Some("UserId") => &mut fields.user_id,
        Some("Account") => &mut fields.account,
        Some("RequestId") => return Some(()),
        _ => return text.trim().is_empty().then_some(()),
    };
    field.push_str(text);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARN: &str = "arn:aws:iam::123456789012:user/alice";

    fn document(result: &str) -> String {
        format!(
            "<GetCallerIdentityResponse xmlns=\"{NAMESPACE}\"><GetCallerIdentityResult>{result}</GetCallerIdentityResult>\
             <ResponseMetadata><RequestId>1</RequestId></ResponseMetadata></GetCallerIdentityResponse>"
        )
    }

    fn good() -> String {
        document(&format!(
            "<UserId>AIDA0123456789ABCDEF0</UserId><Account>123456789012</Account><Arn>{ARN}</Arn>"
        ))
    }

    fn answer(status: u16, body: &str) -> StsAnswer {
        StsAnswer {
            status,
            date: 0,
            body: body.as_bytes().to_vec(),
        }
    }

    #[test]
    fn answers_of_another_form_are_refused() {
        // The failure of CVE-2020-16250: the answer found inside something else.
        let good = good();
        assert!(parse(&good).is_some());
        let cut = &good[..good.len() - 5];
        for bad in [
            String::new(),
            cut.to_owned(),
            format!("<x>{good}</x>"),
            format!("{good}{good}"),
            format!("{good}<x/>"),
            format!("<!DOCTYPE a>{good}"),
            format!("<!DOCTYPE a [<!ENTITY e 'x'>]>{good}"),
            format!("<?php x?>{good}"),
            format!("<!-- c -->{good}"),
            format!("text{good}"),
            good.replace(NAMESPACE, "https://evil.example/"),
            good.replace(" xmlns=", " xmlns:a="),
            good.replace(" xmlns=", " a=\"b\" xmlns="),
            good.replace("<UserId>", "<UserId a=\"b\">"),
            good.replace("<Arn>", "<a:Arn>")
                .replace("</Arn>", "</a:Arn>"),
            good.replace("alice", "ali&#99;e"),
            good.replace("alice", "<![CDATA[alice]]>"),
            good.replace("alice", "<x/>"),
            good.replace(
                "<Account>",
                "<Arn>arn:aws:iam::123456789012:user/eve</Arn><Account>",
            ),
            good.replace(
                "</GetCallerIdentityResult>",
                "</GetCallerIdentityResult><GetCallerIdentityResult/>",
            ),
            good.replace("<UserId>AIDA0123456789ABCDEF0</UserId>", ""),
            good.replace("GetCallerIdentityResult", "AssumeRoleResult"),
            good.replace("ResponseMetadata", "GetCallerIdentityResponse"),
        ] {
            assert!(parse(&bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_good_body_with_another_status_is_refused() {
        //
        for status in [201, 301, 302, 403, 404, 429, 500, 503] {
            assert!(read(&answer(status, &good())).is_err(), "{status}");
        }
    }

    #[test]
    fn statements_that_are_about_different_callers_are_refused() {
        //
        for bad in [
            good().replace("<Account>123456789012", "<Account>999999999999"),
            good().replace("AIDA0123456789ABCDEF0", "AROA0123456789ABCDEF0:alice"),
            good().replace("AIDA0123456789ABCDEF0", "AROA0123456789ABCDEF0"),
            good().replace("AIDA0123456789ABCDEF0", "short"),
            good().replace(ARN, "arn:aws:sts::123456789012:assumed-role/Dev"),
            good().replace(ARN, "arn:aws:sts::123456789012:user/moto"),
            good().replace(ARN, "arn:aws:sts::123456789012:assumed-role/Dev/alice"),
        ] {
            assert!(
                matches!(
                    read(&answer(200, &bad)),
                    Err(AuthnError::Refused(Refusal::Other(_)))
                ),
                "{bad}"
            );
        }
    }

    #[test]
    fn the_documented_answers_are_read() {
        let user = read(&answer(
            200,
            &format!("<?xml version=\"1.0\"?>\n{}\n", good()),
        ))
        .unwrap();
        assert_eq!(
            (user.arn.to_string().as_str(), user.user_id.as_str()),
            (ARN, "AIDA0123456789ABCDEF0")
        );
        let role = document(
            "\n <Arn>arn:aws:sts::123456789012:assumed-role/Dev/a,b@c</Arn>\n <UserId>AROA0123456789ABCDEF0:a,b@c</UserId>\n \
             <Account>123456789012</Account>\n",
        );
        assert!(read(&answer(200, &role)).is_ok());
        // A stand-in's user id.
        let stand_in = good().replace("AIDA0123456789ABCDEF0", "lvwynjkhwoyvoydor6lm");
        assert!(read(&answer(200, &stand_in)).is_ok());
    }

    #[test]
    fn errors_say_whose_fault_it_is() {
        let error = |code: &str| {
            format!(
                "<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>m</Message></Error></ErrorResponse>"
            )
        };
        let refused = |status, code: &str| read(&answer(status, &error(code))).unwrap_err();
        assert!(matches!(
            refused(403, "SignatureDoesNotMatch"),
            AuthnError::Refused(Refusal::Signature)
        ));
        assert!(matches!(
            refused(403, "InvalidClientTokenId"),
            AuthnError::Refused(Refusal::UnknownKey)
        ));
        assert!(matches!(
            refused(403, "ExpiredToken"),
            AuthnError::Refused(Refusal::Expired)
        ));
        assert!(matches!(
            refused(400, "Throttling"),
            AuthnError::StsUnavailable(_)
        ));
        assert!(matches!(
            refused(503, "SignatureDoesNotMatch"),
            AuthnError::StsUnavailable(_)
        ));
        assert!(matches!(
            refused(302, "SignatureDoesNotMatch"),
            AuthnError::Refused(_)
        ));
        assert!(matches!(
            read(&answer(403, "<html>")),
            Err(AuthnError::StsUnavailable(_))
        ));
        // The form that wraps the error once more.
        let wrapped = "<ErrorResponse><Errors><Error><Code>ExpiredToken</Code></Error></Errors></ErrorResponse>";
        assert!(matches!(
            read(&answer(403, wrapped)),
            Err(AuthnError::Refused(Refusal::Expired))
        ));
    }
}
