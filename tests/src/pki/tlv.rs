//! DER by hand: tag, length, content. A generator of hostile forms wants to write what an encoder would refuse.

/// SEQUENCE.
pub(super) const SEQUENCE: u8 = 0x30;
/// OCTET STRING.
pub(super) const OCTETS: u8 = 0x04;
/// BIT STRING.
pub(super) const BITS: u8 = 0x03;
/// ENUMERATED.
pub(super) const ENUMERATED: u8 = 0x0a;
/// GeneralizedTime.
pub(super) const TIME: u8 = 0x18;

/// `[number]` with content of its own structure.
pub(super) fn context(number: u8) -> u8 {
    0xa0 | number
}

/// `[number]` with primitive content.
pub(super) fn primitive_context(number: u8) -> u8 {
    0x80 | number
}

/// One element around its parts.
pub(super) fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let mut out = vec![tag];
    out.extend(length(content.len()));
    out.extend(content);
    out
}

/// X.690 section 8.1.3: short form below 128, else the number of bytes and the bytes.
fn length(length: usize) -> Vec<u8> {
    match u8::try_from(length) {
        Ok(short @ 0..128) => vec![short],
        _ => {
            let bytes: Vec<u8> = length
                .to_be_bytes()
                .into_iter()
                .skip_while(|byte| *byte == 0)
                .collect();
            let count = u8::try_from(bytes.len()).unwrap_or(8);
            [vec![0x80 | count], bytes].concat()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_take_the_shortest_form() {
        assert_eq!(length(127), [127]);
        assert_eq!(length(128), [0x81, 128]);
        assert_eq!(length(256), [0x82, 1, 0]);
    }
}
