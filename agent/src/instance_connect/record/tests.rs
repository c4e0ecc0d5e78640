//! Record grammar: what is dropped, and that it never takes a neighbour along.

use super::*;

const KEY: &str = "ssh-ed25519 AAAA comment";

/// A record of the right form; its signature is not a real one.
fn good(instance: &str) -> String {
    format!("#Timestamp=100\n#Instance={instance}\n{KEY}\nc2ln\nbmF0dXJl\n\n")
}

fn instances(text: &str) -> Vec<Option<String>> {
    parse(text.as_bytes())
        .iter()
        .map(|r| r.as_ref().map(|r| r.instance().to_owned()))
        .collect()
}

/// I-07: what is wrong, and the record with `KEY` for the key's line.
const MALFORMED: &[(&str, &str)] = &[
    ("no timestamp", "#Instance=i-b\nKEY\nc2ln\n\n"),
    ("no instance", "#Timestamp=100\nKEY\nc2ln\n\n"),
    ("no headers", "KEY\nc2ln\n\n"),
    (
        "two timestamps",
        "#Timestamp=100\n#Timestamp=100\n#Instance=i-b\nKEY\nc2ln\n\n",
    ),
    (
        "two instances",
        "#Timestamp=100\n#Instance=i-b\n#Instance=i-c\nKEY\nc2ln\n\n",
    ),
    (
        "two callers",
        "#Timestamp=100\n#Instance=i-b\n#Caller=a\n#Caller=b\nKEY\nc2ln\n\n",
    ),
    (
        "two unknown headers",
        "#Timestamp=100\n#Instance=i-b\n#X=a\n#X=b\nKEY\nc2ln\n\n",
    ),
    (
        "word as timestamp",
        "#Timestamp=soon\n#Instance=i-b\nKEY\nc2ln\n\n",
    ),
    (
        "empty timestamp",
        "#Timestamp=\n#Instance=i-b\nKEY\nc2ln\n\n",
    ),
    (
        "negative timestamp",
        "#Timestamp=-1\n#Instance=i-b\nKEY\nc2ln\n\n",
    ),
    (
        "signed timestamp",
        "#Timestamp=+100\n#Instance=i-b\nKEY\nc2ln\n\n",
    ),
    (
        "blank in timestamp",
        "#Timestamp= 100\n#Instance=i-b\nKEY\nc2ln\n\n",
    ),
    (
        "hexadecimal timestamp",
        "#Timestamp=0x64\n#Instance=i-b\nKEY\nc2ln\n\n",
    ),
    (
        "timestamp 2^64",
        "#Timestamp=18446744073709551616\n#Instance=i-b\nKEY\nc2ln\n\n",
    ),
    (
        "name in other case",
        "#timestamp=100\n#Instance=i-b\nKEY\nc2ln\n\n",
    ),
    (
        "blank in name",
        "# Timestamp=100\n#Instance=i-b\nKEY\nc2ln\n\n",
    ),
    (
        "CRLF",
        "#Timestamp=100\r\n#Instance=i-b\r\nKEY\r\nc2ln\r\n\r\n",
    ),
    (
        "NUL in header",
        "#Timestamp=100\n#Instance=i-b\0\nKEY\nc2ln\n\n",
    ),
    (
        "NUL in key",
        "#Timestamp=100\n#Instance=i-b\nKEY\0\nc2ln\n\n",
    ),
    (
        "escape in caller",
        "#Timestamp=100\n#Instance=i-b\n#Caller=\u{1b}[2J\nKEY\nc2ln\n\n",
    ),
    ("no signature", "#Timestamp=100\n#Instance=i-b\nKEY\n\n"),
    (
        "signature that is no base64",
        "#Timestamp=100\n#Instance=i-b\nKEY\n!!\n\n",
    ),
    (
        "second key instead of a signature",
        "#Timestamp=100\n#Instance=i-b\nKEY\nKEY\n\n",
    ),
    ("headers only", "#Timestamp=100\n#Instance=i-b\n\n"),
    (
        "blank line before the key",
        "#Timestamp=100\n#Instance=i-b\n\n",
    ),
];

#[test]
fn malformed_records_are_dropped_and_their_neighbours_kept() {
    for (flaw, bad) in MALFORMED {
        let bad = bad.replace("KEY", KEY);
        let text = format!("{}{bad}{}", good("i-a"), good("i-c"));
        assert_eq!(
            instances(&text),
            [Some("i-a".to_owned()), None, Some("i-c".to_owned())],
            "{flaw}"
        );
    }
}

#[test]
fn a_header_after_the_key_drops_its_record() {
    // I-07: both halves are malformed, the neighbours stand
    let bad = format!("#Timestamp=100\n#Instance=i-b\n{KEY}\n#Caller=x\nc2ln\n\n");
    let text = format!("{}{bad}{}", good("i-a"), good("i-c"));
    assert_eq!(
        instances(&text),
        [Some("i-a".to_owned()), None, None, Some("i-c".to_owned())]
    );
}

#[test]
fn a_missing_blank_line_drops_only_the_record_before_it() {
    // I-07
    let text = format!(
        "{}{}",
        good("i-a").trim_end_matches('\n').to_owned() + "\n",
        good("i-b")
    );
    assert_eq!(instances(&text), [None, Some("i-b".to_owned())]);
}

#[test]
fn bytes_that_are_no_text_are_dropped() {
    let mut bytes = b"#Timestamp=100\n#Instance=i-\xff\n".to_vec();
    bytes.extend_from_slice(KEY.as_bytes());
    bytes.extend_from_slice(b"\nc2ln\n\n");
    assert_eq!(parse(&bytes), [None]);
}

#[test]
fn nothing_comes_of_nothing() {
    assert!(parse(b"").is_empty());
    assert!(parse(b"\n\n\n").is_empty());
}

#[test]
fn headers_come_in_any_order_with_unknown_ones_between() {
    let text = format!(
        "#New=1\n#Request=r\n#Instance=i-a\n#Flag\n#Caller=arn:a=b\n#Timestamp=7\n{KEY}\nc2ln\n"
    );
    let records = parse(text.as_bytes());
    let record = records[0].as_ref().unwrap();
    assert_eq!(
        (record.instance(), record.expires(), record.request()),
        ("i-a", 7, Some("r"))
    );
    assert_eq!(record.caller(), Some("arn:a=b"));
}

#[test]
fn the_signed_bytes_are_headers_and_key_with_line_ends() {
    let text = good("i-a");
    let records = parse(text.as_bytes());
    let record = records[0].as_ref().unwrap();
    assert_eq!(
        record.signed(),
        format!("#Timestamp=100\n#Instance=i-a\n{KEY}\n").as_bytes()
    );
    assert_eq!(
        (record.signature(), record.key_line()),
        (b"signature".as_slice(), KEY)
    );
}

#[test]
fn a_last_line_without_its_end_is_read() {
    // The official agent drops it.
    assert_eq!(instances(good("i-a").trim_end()), [Some("i-a".to_owned())]);
}

#[test]
fn records_are_split_by_any_number_of_blank_lines() {
    let text = format!("\n\n{}\n\n{}", good("i-a"), good("i-b"));
    assert_eq!(
        instances(&text),
        [Some("i-a".to_owned()), Some("i-b".to_owned())]
    );
}

proptest::proptest! {
    #[test]
    fn arbitrary_bytes_never_panic_and_never_take_the_next_record_along(
        bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..300)
    ) {
        let mut text = bytes;
        text.extend_from_slice(b"\n\n");
        text.extend_from_slice(good("i-last").as_bytes());
        let records = parse(&text);
        let last = records.last().unwrap().as_ref().unwrap();
        proptest::prop_assert_eq!(last.instance(), "i-last");
    }
}
