//! A JSON body posted to the CA, and its answer: taken where the CA accepted, told in the CA's own words where not.
//! What is sent, and what an answer means, is the caller's.

use std::time::Duration;

use eic_protocol::proof::{Audience, Route};
use eic_protocol::text::printable;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::http::{Client, HttpError};

/// The CA asks STS and EC2 meanwhile.
const DEADLINE: Duration = Duration::from_secs(30);
/// Largest answer in bytes.
const MAX_ANSWER: u64 = 64 * 1024;

/// The CA's answer to a JSON body at a route.
///
/// # Errors
/// [`NoAnswer`].
pub(super) fn to_post<T: DeserializeOwned>(
    client: &Client,
    ca: &Audience,
    route: &Route,
    body: &[u8],
) -> Result<T, NoAnswer> {
    let url = format!("{ca}{}", route.path());
    let headers = [("content-type", "application/json")];
    let answer = client.post(&url, &headers, body, MAX_ANSWER, DEADLINE)?;
    if !matches!(answer.status, 200..=202) {
        return Err(NoAnswer::Refused {
            status: answer.status,
            reason: problem_text(&answer.body),
        });
    }
    serde_json::from_slice(&answer.body).map_err(|_| NoAnswer::Form)
}

/// Title and detail of a problem document (RFC 9457), made harmless; a page of something else is not repeated.
fn problem_text(body: &[u8]) -> String {
    match serde_json::from_slice::<Problem>(body) {
        Ok(problem) => problem.text(),
        Err(_) => "no reason was given".to_owned(),
    }
}

/// A problem document as far as it is told.
#[derive(Deserialize)]
struct Problem {
    #[serde(default)]
    title: String,
    #[serde(default)]
    detail: String,
}

impl Problem {
    fn text(&self) -> String {
        match (self.title.as_str(), self.detail.as_str()) {
            ("", detail) => printable(detail),
            (title, "") => printable(title),
            (title, detail) => printable(&format!("{title}: {detail}")),
        }
    }
}

/// Why there is nothing that counts.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoAnswer {
    /// None came.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The CA said no.
    #[error("be accepted: the CA answered {status}: {reason}")]
    Refused {
        /// The status code.
        status: u16,
        /// In the CA's words.
        reason: String,
    },
    /// Something else answered.
    #[error("understand the answer: it is none of a CA")]
    Form,
}

impl NoAnswer {
    /// Whether the CA has judged what was shown: it was not busy, late (408, RFC 9110 §15.5.9), pressed (429, RFC
    /// 6585 §4) or failing, after which the same is worth showing again.
    pub(super) fn is_judgement(&self) -> bool {
        match self {
            Self::Refused { status, .. } => {
                matches!(status, 400..=499) && !matches!(status, 408 | 429)
            }
            Self::Http(_) | Self::Form => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_or_failing_ca_has_judged_nothing() {
        let judged = |status| {
            let reason = String::new();
            NoAnswer::Refused { status, reason }.is_judgement()
        };
        for status in [307, 408, 429, 500, 502, 503] {
            assert!(!judged(status), "{status}");
        }
        for status in [400, 401, 403, 404, 409, 422] {
            assert!(judged(status), "{status}");
        }
        assert!(!NoAnswer::Form.is_judgement());
    }

    #[test]
    fn problem_documents_are_shown_without_their_escapes() {
        // H-15
        let evil = b"{\"title\":\"no\",\"detail\":\"\\u001b[31mred\"}";
        let shown = problem_text(evil);
        assert!(
            shown.starts_with("no: ") && !shown.contains('\u{1b}'),
            "{shown}"
        );
        assert_eq!(problem_text(b"<html>"), "no reason was given");
    }
}
