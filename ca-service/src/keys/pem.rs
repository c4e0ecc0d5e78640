//! PEM text (RFC 7468) of one block. Not a certificate reader.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

/// Characters of a line (RFC 7468 §2).
const WIDTH: usize = 64;

/// The block of this label, where the text holds just one.
pub(crate) fn decode(text: &str, label: &str) -> Option<Zeroizing<Vec<u8>>> {
    let (begin, end) = (
        format!("-----BEGIN {label}-----"),
        format!("-----END {label}-----"),
    );
    let (_, rest) = text.split_once(&begin)?;
    let (body, after) = rest.split_once(&end)?;
    if after.contains(&begin) {
        return None;
    }
    let body: Zeroizing<String> = Zeroizing::new(body.split_ascii_whitespace().collect());
    STANDARD.decode(body.as_bytes()).ok().map(Zeroizing::new)
}

/// The text of a block.
pub(crate) fn encode(bytes: &[u8], label: &str) -> Zeroizing<String> {
    let body = Zeroizing::new(STANDARD.encode(bytes));
    let mut text = Zeroizing::new(format!("-----BEGIN {label}-----\n"));
    let mut rest = body.as_str();
    while !rest.is_empty() {
        let (line, tail) = rest.split_at(rest.len().min(WIDTH));
        text.push_str(line);
        text.push('\n');
        rest = tail;
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_blocks_or_another_label_are_refused() {
        let text = encode(b"secret", "PRIVATE KEY");
        assert!(decode(&text, "RSA PRIVATE KEY").is_none());
        assert!(
            decode(
                &format!("{}{}", text.as_str(), text.as_str()),
                "PRIVATE KEY"
            )
            .is_none()
        );
        assert!(decode(&text.replace('=', "!"), "PRIVATE KEY").is_none() || !text.contains('='));
    }

    #[test]
    fn a_block_is_read_as_it_was_written_in_short_lines() {
        let bytes: Vec<u8> = (0..=255).collect();
        let text = encode(&bytes, "PRIVATE KEY");
        assert!(text.lines().all(|line| line.len() <= WIDTH));
        assert_eq!(decode(&text, "PRIVATE KEY").unwrap().as_slice(), bytes);
    }
}
