//! HTTP/1.1 responses (RFC 9112) as far as the metadata service speaks them: one head, one body of
//! a stated length. Not a general client: no chunks, no redirects, no compression, no proxies.

use std::io::Read;

/// The first part of a response.
#[derive(Debug, PartialEq, Eq)]
pub struct Head {
    /// The three digits of the status line.
    pub status: u16,
    /// `Content-Length`, where the server states one.
    pub length: Option<usize>,
    /// Whether the server will close the connection after this response.
    pub closes: bool,
}

/// Longest head in bytes; the metadata service's are about 300.
const MAX_HEAD: usize = 4096;

/// Bytes of one connection, counted against what the whole run may still read.
#[derive(Debug)]
pub struct Reader<R> {
    stream: R,
    buffer: Vec<u8>,
}

impl<R: Read> Reader<R> {
    /// A reader at the start of a response.
    pub fn new(stream: R) -> Self {
        Self {
            stream,
            buffer: Vec::new(),
        }
    }

    /// The connection, to write the next request to.
    pub fn stream(&mut self) -> &mut R {
        &mut self.stream
    }

    /// The connection, to look at.
    #[must_use]
    pub fn stream_ref(&self) -> &R {
        &self.stream
    }

    /// Whether the server sent more than it was asked for.
    #[must_use]
    pub fn has_surplus(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// Reads a response's head.
    ///
    /// # Errors
    /// The head is too long, malformed, states its length twice or uses a transfer encoding; the stream ended.
    pub fn head(&mut self, budget: &mut Budget) -> Result<Head, HttpError> {
        loop {
            if let Some(end) = find(&self.buffer, b"\r\n\r\n") {
                let rest = self.buffer.split_off(end + 4);
                let head = std::mem::replace(&mut self.buffer, rest);
                return parse_head(&head);
            }
            if self.buffer.len() > MAX_HEAD {
                return Err(HttpError::Malformed("its head is too long"));
            }
            if self.fill(budget)? == 0 {
                return Err(HttpError::Closed);
            }
        }
    }

    /// Reads the body that belongs to `head`; without a stated length, up to the end of the connection.
    ///
    /// # Errors
    /// The stream ended early, or the budget is used up.
    pub fn body(&mut self, head: &Head, budget: &mut Budget) -> Result<Vec<u8>, HttpError> {
        match head.length {
            Some(length) => self.exactly(length, budget),
            None if head.closes => self.until_end(budget),
            None => Err(HttpError::Malformed("it states no length")),
        }
    }

    fn exactly(&mut self, length: usize, budget: &mut Budget) -> Result<Vec<u8>, HttpError> {
        // Refused before the first byte is waited for.
        budget.check(length.saturating_sub(self.buffer.len()))?;
        while self.buffer.len() < length {
            if self.fill(budget)? == 0 {
                return Err(HttpError::Closed);
            }
        }
        let rest = self.buffer.split_off(length);
        Ok(std::mem::replace(&mut self.buffer, rest))
    }

    fn until_end(&mut self, budget: &mut Budget) -> Result<Vec<u8>, HttpError> {
        while self.fill(budget)? > 0 {}
        Ok(std::mem::take(&mut self.buffer))
    }

    fn fill(&mut self, budget: &mut Budget) -> Result<usize, HttpError> {
        let mut chunk = [0; 4096];
        let count = self.stream.read(&mut chunk).map_err(HttpError::Stream)?;
        budget.take(count)?;
        self.buffer.extend(chunk.iter().take(count));
        Ok(count)
    }
}

/// How many bytes may still be read.
#[derive(Debug)]
pub struct Budget(usize);

impl Budget {
    /// `bytes` in all.
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        Self(bytes)
    }

    fn check(&self, count: usize) -> Result<(), HttpError> {
        if count <= self.0 {
            Ok(())
        } else {
            Err(HttpError::TooMuch)
        }
    }

    fn take(&mut self, count: usize) -> Result<(), HttpError> {
        self.0 = self.0.checked_sub(count).ok_or(HttpError::TooMuch)?;
        Ok(())
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack
        .windows(needle.len())
        .position(|window| window == needle)
}

fn parse_head(bytes: &[u8]) -> Result<Head, HttpError> {
    let text =
        std::str::from_utf8(bytes).map_err(|_| HttpError::Malformed("its head is no text"))?;
    let mut lines = text.trim_end_matches("\r\n").split("\r\n");
    let (http_1_0, status) = parse_status(lines.next().unwrap_or_default())?;
    let mut head = Head {
        status,
        length: None,
        closes: http_1_0,
    };
    for line in lines {
        let (name, value) = line
            .split_once(':')
            .ok_or(HttpError::Malformed("a header has no colon"))?;
        apply_header(&mut head, name, value.trim_matches([' ', '\t']))?;
    }
    Ok(head)
}

fn parse_status(line: &str) -> Result<(bool, u16), HttpError> {
    let malformed = HttpError::Malformed("its status line is not HTTP/1");
    let Some((version, rest)) = line.split_once(' ') else {
        return Err(malformed);
    };
    let digits = rest.split(' ').next().unwrap_or_default();
    let three_digits = digits.len() == 3 && digits.bytes().all(|b| b.is_ascii_digit());
    let status = digits.parse().ok().filter(|_| three_digits);
    match (version, status) {
        ("HTTP/1.0", Some(status)) => Ok((true, status)),
        ("HTTP/1.1", Some(status)) => Ok((false, status)),
        _ => Err(malformed),
    }
}

fn apply_header(head: &mut Head, name: &str, value: &str) -> Result<(), HttpError> {
    if name.eq_ignore_ascii_case("content-length") {
        let digits = !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit());
        let length = value
            .parse()
            .ok()
            .filter(|_| digits && head.length.is_none());
        head.length = Some(length.ok_or(HttpError::Malformed(
            "its length is stated wrongly or twice",
        ))?);
    } else if name.eq_ignore_ascii_case("transfer-encoding") {
        return Err(HttpError::Malformed("it uses a transfer encoding"));
    } else if name.eq_ignore_ascii_case("connection") {
        head.closes = head.closes || value.eq_ignore_ascii_case("close");
    }
    Ok(())
}

/// Why a response cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The connection failed or a time limit passed.
    #[error("read a response")]
    Stream(#[source] std::io::Error),
    /// The connection ended within a response.
    #[error("read a response: the connection was closed early")]
    Closed,
    /// Not a response that we read.
    #[error("read a response: {0}")]
    Malformed(&'static str),
    /// The run has read all that it may.
    #[error("read a response: more bytes than a run may read")]
    TooMuch,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(response: &str, budget: usize) -> Result<(Head, Vec<u8>), HttpError> {
        let mut reader = Reader::new(response.as_bytes());
        let mut budget = Budget::new(budget);
        let head = reader.head(&mut budget)?;
        let body = reader.body(&head, &mut budget)?;
        Ok((head, body))
    }

    #[test]
    fn malformed_responses_are_refused() {
        for (flaw, response) in [
            ("empty", ""),
            ("not HTTP", "SSH-2.0-x\r\n\r\n"),
            ("HTTP/2", "HTTP/2 200 OK\r\n\r\n"),
            ("HTTP/0.9", "<html>\r\n\r\n"),
            ("two digits", "HTTP/1.1 20 OK\r\ncontent-length: 0\r\n\r\n"),
            (
                "signed status",
                "HTTP/1.1 +20 OK\r\ncontent-length: 0\r\n\r\n",
            ),
            ("no colon", "HTTP/1.1 200 OK\r\ngarbage\r\n\r\n"),
            (
                "two lengths",
                "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 1\r\n\r\na",
            ),
            (
                "signed length",
                "HTTP/1.1 200 OK\r\ncontent-length: +1\r\n\r\na",
            ),
            (
                "negative length",
                "HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\na",
            ),
            (
                "list of lengths",
                "HTTP/1.1 200 OK\r\ncontent-length: 1, 1\r\n\r\na",
            ),
            (
                "2^64 length",
                "HTTP/1.1 200 OK\r\ncontent-length: 18446744073709551616\r\n\r\na",
            ),
            (
                "chunks",
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            ),
            ("no length", "HTTP/1.1 200 OK\r\n\r\nabc"),
            (
                "short body",
                "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nabc",
            ),
            (
                "head without end",
                "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n",
            ),
        ] {
            assert!(whole(response, 10_000).is_err(), "{flaw}");
        }
    }

    #[test]
    fn heads_without_end_are_bounded() {
        // I-04
        let endless = format!("HTTP/1.1 200 OK\r\n{}", "a: b\r\n".repeat(10_000));
        assert!(matches!(
            whole(&endless, 1 << 20),
            Err(HttpError::Malformed("its head is too long"))
        ));
    }

    #[test]
    fn bodies_beyond_the_budget_are_refused_before_they_are_read() {
        // I-04: 200 with 1 GB
        let response = "HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n";
        assert!(matches!(whole(response, 65_536), Err(HttpError::TooMuch)));
        let endless = format!("HTTP/1.0 200 OK\r\n\r\n{}", "x".repeat(10_000));
        assert!(matches!(whole(&endless, 8_192), Err(HttpError::TooMuch)));
    }

    #[test]
    fn stated_lengths_and_closed_connections_end_a_body() {
        let (head, body) = whole(
            "HTTP/1.1 200 OK\r\nContent-Length:3\r\nConnection: close\r\n\r\nabcREST",
            10_000,
        )
        .unwrap();
        assert_eq!(
            (head.status, head.closes, body.as_slice()),
            (200, true, b"abc".as_slice())
        );
        let (_, body) = whole("HTTP/1.0 404 Not Found\r\n\r\nabc", 10_000).unwrap();
        assert_eq!(body, b"abc");
    }

    #[test]
    fn surplus_bytes_are_noticed() {
        let mut reader = Reader::new(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nab".as_slice());
        let mut budget = Budget::new(1000);
        let head = reader.head(&mut budget).unwrap();
        reader.body(&head, &mut budget).unwrap();
        assert!(reader.has_surplus());
    }

    proptest::proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
            let mut reader = Reader::new(bytes.as_slice());
            let mut budget = Budget::new(1000);
            if let Ok(head) = reader.head(&mut budget) {
                let _ = reader.body(&head, &mut budget);
            }
        }
    }
}
