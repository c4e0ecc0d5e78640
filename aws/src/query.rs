//! Calls of the AWS query protocol: a form in, XML out. Used for EC2 and IAM.

use std::time::Duration;

use http::Request;
use quick_xml::events::Event;
use quick_xml::reader::Reader;

use crate::endpoint::Endpoint;
use crate::error::AwsError;
use crate::http_client::{HttpClient, Limits};
use crate::sigv4::{Scope, sign_request};

/// For calls that a person waits for.
const LIMITS: Limits = Limits {
    deadline: Duration::from_secs(10),
    max_body: 8 * 1024 * 1024,
};
/// Nesting of EC2's and IAM's answers stays under 12.
const MAX_DEPTH: usize = 32;

/// Sends one call and returns the parsed answer.
///
/// # Errors
/// [`AwsError::Service`] with AWS's code where the status is not 200.
pub async fn call(
    client: &HttpClient,
    endpoint: &Endpoint,
    scope: &Scope<'_>,
    parameters: &[(String, String)],
) -> Result<Element, AwsError> {
    let mut request = Request::post(endpoint.url("/"))
        .header("host", endpoint.host())
        .header(
            "content-type",
            "application/x-www-form-urlencoded; charset=utf-8",
        )
        .body(form(parameters).into_bytes())
        .map_err(|e| AwsError::Signing(e.to_string()))?;
    sign_request(scope, &mut request)?;
    let answer = client.send(request, LIMITS).await?;
    let text = String::from_utf8(answer.body).map_err(|_| AwsError::Malformed("not UTF-8"))?;
    if answer.status == 200 {
        return Element::parse(&text);
    }
    Err(service_error(answer.status, &text))
}

/// The refusal in an XML answer.
pub(crate) fn service_error(status: u16, text: &str) -> AwsError {
    let parsed = Element::parse(text).ok();
    let error = parsed.as_ref().and_then(|root| root.find("Error"));
    let field = |name| error.and_then(|e| e.child_text(name)).unwrap_or_default();
    AwsError::service(status, field("Code"), field("Message"))
}

/// `a=b&c=d`, names and values percent-encoded.
fn form(parameters: &[(String, String)]) -> String {
    let pairs = parameters
        .iter()
        .map(|(name, value)| format!("{}={}", percent(name), percent(value)));
    pairs.collect::<Vec<_>>().join("&")
}

/// `text` with all but unreserved characters percent-encoded (RFC 3986 §2.3): one value of a query or path
/// segment, which adds no structure of its own.
#[must_use]
pub fn percent(text: &str) -> String {
    text.bytes()
        .map(|b| match b {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(b).to_string()
            }
            _ => format!("%{b:02X}"),
        })
        .collect()
}

/// An XML element without its attributes and namespaces: AWS's answers need neither.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Element {
    name: String,
    text: String,
    children: Vec<Element>,
}

impl Element {
    /// Parses a document with one root; document types and processing instructions are refused.
    ///
    /// # Errors
    /// [`AwsError::Malformed`].
    pub fn parse(text: &str) -> Result<Self, AwsError> {
        let mut reader = Reader::from_str(text);
        let mut open = vec![Self::default()];
        loop {
            match reader
                .read_event()
                .map_err(|_| AwsError::Malformed("broken XML"))?
            {
                Event::Start(start) => open.push(Self::named(start.local_name().as_ref())),
                Event::Empty(start) => close(&mut open, Self::named(start.local_name().as_ref()))?,
                Event::End(_) => {
                    let done = open.pop().ok_or(AwsError::Malformed("unbalanced XML"))?;
                    close(&mut open, done)?;
                }
                Event::Text(text) => append(&mut open, &text),
                Event::GeneralRef(reference) => append(&mut open, resolve(&reference)?.as_str()),
                Event::Eof => break,
                Event::Decl(_) | Event::Comment(_) => {}
                _ => return Err(AwsError::Malformed("a document type or CDATA")),
            }
            if open.len() > MAX_DEPTH {
                return Err(AwsError::Malformed("nested too deeply"));
            }
        }
        let mut root = open
            .pop()
            .filter(|_| open.is_empty())
            .ok_or(AwsError::Malformed("unbalanced XML"))?;
        match (root.children.pop(), root.children.is_empty()) {
            (Some(only), true) => Ok(only),
            _ => Err(AwsError::Malformed("not one root element")),
        }
    }

    fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            ..Self::default()
        }
    }

    /// The element's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The element's own text.
    #[must_use]
    pub fn text(&self) -> &str {
        self.text.trim()
    }

    /// Children of this name.
    pub fn children<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Self> {
        self.children.iter().filter(move |c| c.name == name)
    }

    /// The first child of this name.
    #[must_use]
    pub fn child<'a>(&'a self, name: &'a str) -> Option<&'a Self> {
        self.children(name).next()
    }

    /// The text of the first child of this name, unless it is empty.
    #[must_use]
    pub fn child_text<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        self.child(name).map(Self::text).filter(|t| !t.is_empty())
    }

    /// The first element of this name at any depth.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&Self> {
        if self.name == name {
            return Some(self);
        }
        self.children.iter().find_map(|c| c.find(name))
    }
}

fn close(open: &mut [Element], done: Element) -> Result<(), AwsError> {
    open.last_mut()
        .ok_or(AwsError::Malformed("unbalanced XML"))?
        .children
        .push(done);
    Ok(())
}

fn append(open: &mut [Element], text: &str) {
    if let Some(element) = open.last_mut() {
        element.text.push_str(text);
    }
}

/// The five predefined entities and character references; others cannot be declared without a document type.
fn resolve(reference: &quick_xml::events::BytesRef<'_>) -> Result<String, AwsError> {
    let unknown = AwsError::Malformed("an unknown entity");
    if let Some(c) = reference
        .resolve_char_ref()
        .map_err(|_| AwsError::Malformed("a bad character reference"))?
    {
        return Ok(c.to_string());
    }
    let name: &str = reference;
    quick_xml::escape::resolve_predefined_entity(name)
        .map(str::to_owned)
        .ok_or(unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn document_types_unknown_entities_and_two_roots_are_refused() {
        for bad in [
            "<!DOCTYPE a [<!ENTITY x 'y'>]><a>&x;</a>",
            "<a>&x;</a>",
            "<a/><b/>",
            "<a>",
            "</a>",
            "",
            &"<a>".repeat(100),
        ] {
            assert!(Element::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn text_and_children_are_found_by_name() {
        let root = Element::parse(
            "<?xml version='1.0'?><r xmlns='x'><set><item>a &amp; b&#33;</item><item/></set></r>",
        )
        .unwrap();
        let items: Vec<_> = root
            .find("set")
            .unwrap()
            .children("item")
            .map(Element::text)
            .collect();
        assert_eq!(items, ["a & b!", ""]);
    }

    #[test]
    fn forms_encode_everything_that_could_add_a_parameter() {
        assert_eq!(
            form(&[("a".into(), "b&c=d %/".into())]),
            "a=b%26c%3Dd%20%25%2F"
        );
    }
}
