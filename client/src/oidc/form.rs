//! `application/x-www-form-urlencoded`, both ways: what is sent to an issuer, and what comes back in a query.

use std::collections::BTreeMap;

use eic_aws::query::percent;

/// Most parameters of a query that is read.
const MAX_PARAMETERS: usize = 32;

/// `a=b&c=d`
pub(super) fn write(fields: &[(&str, &str)]) -> String {
    let pairs = fields
        .iter()
        .map(|(name, value)| format!("{}={}", percent(name), percent(value)));
    pairs.collect::<Vec<_>>().join("&")
}

/// The parameters of a query; none where one is there twice (RFC 6749 §3.1) or it is none.
pub(super) fn read(query: &str) -> Option<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let twice = found.insert(decoded(name)?, decoded(value)?).is_some();
        if twice || found.len() > MAX_PARAMETERS {
            return None;
        }
    }
    Some(found)
}

fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => hex(rest.next()?)? * 16 + hex(rest.next()?)?,
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

fn hex(digit: u8) -> Option<u8> {
    let value = char::from(digit).to_digit(16)?;
    u8::try_from(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_that_comes_twice_or_is_no_text_makes_the_query_none() {
        for bad in [
            "code=a&code=b",
            "code=a&c%6Fde=b",
            "a=%",
            "a=%4",
            "a=%zz",
            "a=%ff",
            "a=%+1",
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
        let many: Vec<_> = (0..40).map(|n| format!("a{n}=1")).collect();
        assert_eq!(read(&many.join("&")), None);
    }

    #[test]
    fn what_is_written_reads_back_the_same() {
        let fields = [("a b", "c&d=e"), ("ü", "%+"), ("empty", "")];
        let read = read(&write(&fields)).unwrap();
        for (name, value) in fields {
            assert_eq!(read[name], value);
        }
    }
}
