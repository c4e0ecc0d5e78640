//! Where an HTTP/1.1 answer ends in the bytes that came. Of answers to one request at a time; nothing is kept of them.

/// Headers that an answer may have.
const HEADERS: usize = 32;
/// The end of a body in chunks without a trailer (RFC 9112 §7.1).
const LAST_CHUNK: &[u8] = b"\r\n0\r\n\r\n";

/// An answer that is there to its end.
pub(super) struct Answer {
    pub(super) status: u16,
    /// Length of the head, which is where the body begins.
    pub(super) head: usize,
    /// Where the body ends.
    pub(super) end: usize,
}

impl Answer {
    /// None while something is missing.
    ///
    /// # Errors
    /// When it is not HTTP.
    pub(super) fn complete(bytes: &[u8]) -> Result<Option<Self>, String> {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS];
        let mut response = httparse::Response::new(&mut headers);
        let parsed = response.parse(bytes).map_err(|e| format!("answer: {e}"))?;
        let httparse::Status::Complete(head) = parsed else {
            return Ok(None);
        };
        let status = response.code.ok_or("no status")?;
        let length = match status {
            // RFC 9110 §6.4.1: these never have a body, whatever their head says.
            204 | 304 => Some(0),
            _ => length(response.headers)?,
        };
        let end = match length {
            Some(length) => Some(head + length).filter(|end| *end <= bytes.len()),
            None => bytes.ends_with(LAST_CHUNK).then_some(bytes.len()),
        };
        Ok(end.map(|end| Self { status, head, end }))
    }
}

fn length(headers: &[httparse::Header<'_>]) -> Result<Option<usize>, String> {
    let header = headers
        .iter()
        .find(|header| header.name.eq_ignore_ascii_case("content-length"));
    let Some(header) = header else {
        return Ok(None);
    };
    let text = std::str::from_utf8(header.value).ok();
    let length = text.and_then(|text| text.trim().parse().ok());
    length.map(Some).ok_or_else(|| "no length".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Option<(u16, usize)> {
        let answer = Answer::complete(text.as_bytes()).unwrap()?;
        Some((answer.status, answer.end - answer.head))
    }

    #[test]
    fn what_is_no_http_is_refused() {
        assert!(Answer::complete(b"SSH-2.0-OpenSSH_9.2\r\n").is_err());
        let odd = b"HTTP/1.1 200 OK\r\ncontent-length: some\r\n\r\n";
        assert!(Answer::complete(odd).is_err());
    }

    #[test]
    fn an_answer_is_complete_with_its_last_byte() {
        let whole = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc";
        for cut in 0..whole.len() {
            assert_eq!(of(&whole[..cut]), None, "{cut}");
        }
        assert_eq!(of(whole), Some((200, 3)));
        let chunks = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
        assert_eq!(of(&chunks[..chunks.len() - 1]), None);
        assert_eq!(of(chunks), Some((200, 13)));
        let unchanged = "HTTP/1.1 304 Not Modified\r\ncontent-length: 9\r\n\r\n";
        assert_eq!(of(unchanged), Some((304, 0)));
    }
}
