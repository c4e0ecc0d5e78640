//! Every rule of Instance Connect's formats as tables: each case is signed, stapled or answered properly but for the
//! one thing that it is about, and stands alone, before, between and after good neighbours.

use super::key::tests::rsa_line;
use super::ocsp;
use super::place::SignerName;
use super::roots::Roots;
use super::signer::{Chain, Path, Signer};
use super::test_imds::{Answer, Imds};
use super::test_pki::{
    INSTANCE, NOW, Staple, UNKNOWN, World, ed25519_line, good_record, other_rsa_key, pem, record,
    sign_pss, sign_rsa, signer_key, unsigned, wrapped,
};
use super::user::PushedUser;
use super::*;
use std::sync::OnceLock;

struct Silent;

impl Log for Silent {
    fn info(&self, _: &str) {}
}

fn path_of(world: &World) -> Path {
    let roots = Roots::from_pem(pem(&[&world.root.der]).as_bytes()).unwrap();
    let name = SignerName::new(b"us-east-1a", b"amazonaws.com").unwrap();
    let chain = Chain::from_pem(world.chain().as_bytes()).unwrap();
    chain.verify(&roots, &name, NOW).unwrap()
}

fn signer() -> &'static Signer {
    static SIGNER: OnceLock<Signer> = OnceLock::new();
    SIGNER.get_or_init(|| {
        let world = World::new();
        path_of(&world).unrevoked(&world.staples(), NOW).unwrap()
    })
}

fn lines(records: &str) -> String {
    let check = RecordCheck {
        signer: signer(),
        instance: INSTANCE,
        extra_key_types: &BTreeSet::new(),
        fingerprint: None,
        now: NOW,
    };
    check.lines(records.as_bytes(), &Silent)
}

/// What becomes of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Kept,
    Dropped,
}
use Fate::{Dropped, Kept};

/// The case's key, whose line appears exactly when its record is kept.
const CASE: u8 = 9;

/// Puts a record into every neighbourhood; the neighbours must come out whatever becomes of it.
fn judge(flaw: &str, text: &str, fate: Fate) -> usize {
    let line = |seed| format!("{}\n", ed25519_line(seed));
    let own = if fate == Kept {
        line(CASE)
    } else {
        String::new()
    };
    let (before, after) = (good_record(&ed25519_line(1)), good_record(&ed25519_line(2)));
    let closed = format!("{}\n\n", text.trim_end_matches('\n'));
    for (place, all, expected) in [
        ("alone", text.to_owned(), own.clone()),
        (
            "first",
            format!("{closed}{after}"),
            format!("{own}{}", line(2)),
        ),
        (
            "last",
            format!("{before}{text}"),
            format!("{}{own}", line(1)),
        ),
        (
            "between",
            format!("{before}{closed}{after}"),
            format!("{}{own}{}", line(1), line(2)),
        ),
    ] {
        assert_eq!(lines(&all), expected, "{flaw}, {place}: {text}");
    }
    4
}

fn expiry(value: &str) -> String {
    format!("#Timestamp={value}")
}

fn instance(value: &str) -> String {
    format!("#Instance={value}")
}

fn signed(headers: &[String]) -> String {
    let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
    record(&headers, &ed25519_line(CASE))
}

fn good_expiry() -> String {
    expiry(&(NOW + 60).to_string())
}

#[test]
fn timestamps() {
    // I-07, I-09: the expiry, strictly later than now, decimal digits only
    let soon = NOW + 60;
    let mut cases = 0;
    for (value, fate) in [
        (String::new(), Dropped),
        ("0".into(), Dropped),
        ("soon".into(), Dropped),
        (format!("-{soon}"), Dropped),
        (format!("+{soon}"), Dropped),
        (format!(" {soon}"), Dropped),
        (format!("{soon} "), Dropped),
        (format!("\t{soon}"), Dropped),
        (format!("{soon}\r"), Dropped),
        (format!("{soon}\0"), Dropped),
        (format!("{soon}.0"), Dropped),
        (format!("{soon}s"), Dropped),
        (format!("{soon},{soon}"), Dropped),
        (format!("={soon}"), Dropped),
        (format!("0x{soon:x}"), Dropped),
        ("1e12".into(), Dropped),
        ("1_781_524_860".into(), Dropped),
        ("١٧٨١٥٢٤٨٦٠".into(), Dropped),
        ("18446744073709551616".into(), Dropped),
        ("99999999999999999999999999".into(), Dropped),
        ((NOW - 1).to_string(), Dropped),
        (NOW.to_string(), Dropped),
        ((NOW + 1).to_string(), Kept),
        (soon.to_string(), Kept),
        (format!("000{soon}"), Kept),
        ((NOW + 86_400 * 3650).to_string(), Kept),
        (u64::MAX.to_string(), Kept),
    ] {
        cases += judge(
            "timestamp",
            &signed(&[expiry(&value), instance(INSTANCE)]),
            fate,
        );
    }
    assert_eq!(cases, 27 * 4);
}

#[test]
fn instances() {
    // I-07, I-08: byte for byte this one
    for value in [
        "",
        "i-0fedcba9876543210",
        "i-0123456789ABCDEF0",
        "I-0123456789abcdef0",
        "i-0123456789abcdef",
        "i-0123456789abcdef00",
        " i-0123456789abcdef0",
        "i-0123456789abcdef0 ",
        "i-0123456789abcdef0\r",
        "i-0123456789abcdef0\0",
        "i-0123456789abcdef0,i-1",
        "*",
        "i-*",
        "mi-0123456789abcdef0",
        "/i-0123456789abcdef0",
    ] {
        judge(
            "instance",
            &signed(&[good_expiry(), instance(value)]),
            Dropped,
        );
    }
}

fn judge_headers(flaw: &str, headers: &[&str], fate: Fate) {
    let headers: Vec<String> = headers.iter().map(|h| (*h).to_owned()).collect();
    judge(flaw, &signed(&headers), fate);
}

#[test]
fn missing_and_repeated_headers_drop_the_record() {
    // I-07
    let (t, i) = (&*good_expiry(), &*instance(INSTANCE));
    let (old, other) = (&*expiry("1"), &*instance("i-0fedcba9876543210"));
    for (flaw, headers) in [
        ("none", vec![]),
        ("no timestamp", vec![i]),
        ("no instance", vec![t]),
        ("timestamp twice", vec![t, t, i]),
        ("old timestamp first", vec![old, t, i]),
        ("old timestamp last", vec![t, i, old]),
        ("instance twice", vec![t, i, i]),
        ("other instance first", vec![t, other, i]),
        ("other instance last", vec![i, t, other]),
        ("caller twice", vec![t, i, "#Caller=a", "#Caller=b"]),
        ("request twice", vec![t, i, "#Request=a", "#Request=a"]),
        ("unknown twice", vec![t, i, "#New=a", "#New=b"]),
    ] {
        judge_headers(flaw, &headers, Dropped);
    }
}

#[test]
fn headers_of_another_form_drop_the_record() {
    // I-07: each once, names as they are written
    let (t, i) = (&*good_expiry(), &*instance(INSTANCE));
    for (flaw, headers) in [
        ("bare twice", vec![t, i, "#", "#"]),
        ("bare and valued", vec![t, i, "#New", "#New=b"]),
        ("lower case", vec!["#timestamp=1781524860", i]),
        ("upper case", vec![t, "#INSTANCE=i-0123456789abcdef0"]),
        ("blank before the name", vec!["# Timestamp=1781524860", i]),
        ("blank behind the name", vec!["#Timestamp =1781524860", i]),
        ("colon for equals", vec!["#Timestamp:1781524860", i]),
        ("two signs", vec!["##Timestamp=1781524860", i]),
        ("escape in a value", vec![t, i, "#Caller=\u{1b}[2J"]),
        ("NUL in a value", vec![t, i, "#Caller=a\0b"]),
        ("delete in a value", vec![t, i, "#Caller=\u{7f}"]),
        ("C1 control in a value", vec![t, i, "#Caller=\u{9b}2J"]),
        ("vertical tab", vec![t, i, "#Caller=a\u{b}b"]),
    ] {
        judge_headers(flaw, &headers, Dropped);
    }
}

#[test]
fn headers_in_any_order_known_or_not_keep_the_record() {
    let (t, i) = (&*good_expiry(), &*instance(INSTANCE));
    for (flaw, headers) in [
        ("only what is needed", vec![t, i]),
        ("the other way round", vec![i, t]),
        (
            "caller and request",
            vec![
                t,
                i,
                "#Caller=arn:aws:sts::1:assumed-role/a/b=c",
                "#Request=r",
            ],
        ),
        ("first of all", vec!["#Request=r", "#Caller=c", i, t]),
        ("between", vec![t, "#Caller=c", i, "#Request=r"]),
        ("empty values", vec![t, i, "#Caller=", "#Request="]),
        ("unknown ones", vec!["#A=1", t, "#B", i, "#C==", "#"]),
        (
            "other case is another name",
            vec![t, i, "#timestamp=1", "#INSTANCE=x"],
        ),
        ("letters of all countries", vec![t, i, "#Caller=arn:ü/日本"]),
        ("a tab", vec![t, i, "#Caller=a\tb"]),
    ] {
        judge_headers(flaw, &headers, Kept);
    }
    let many: Vec<String> = (0..200).map(|n| format!("#H{n}=x")).collect();
    judge(
        "two hundred",
        &signed(&[vec![t.to_owned(), i.to_owned()], many].concat()),
        Kept,
    );
}

#[test]
fn key_lines() {
    // I-17: only what can be re-encoded; nothing in front of it, anything behind it
    let headers = [good_expiry(), instance(INSTANCE)];
    let headers = headers.each_ref().map(String::as_str);
    let own = ed25519_line(CASE);
    let blob = own.split(' ').nth(1).unwrap();
    for (key_line, fate) in [
        (String::from("ssh-ed25519"), Dropped),
        ("ssh-ed25519 ".into(), Dropped),
        ("ssh-ed25519 garbage".into(), Dropped),
        ("ssh-ed25519 AAAA".into(), Dropped),
        (format!("ssh-ed25519 {blob}!"), Dropped),
        (format!("ssh-ed25519 {blob}AAAA"), Dropped),
        (format!("ssh-ed25519 {}", &blob[..blob.len() - 4]), Dropped),
        (format!("ssh-ed25519,{blob}"), Dropped),
        (format!("ssh-ed25519{blob}"), Dropped),
        (format!("ssh-rsa {blob}"), Dropped),
        (format!("ssh-dss {blob}"), Dropped),
        (format!("SSH-ED25519 {blob}"), Dropped),
        (format!("ssh-ed25519-cert-v01@openssh.com {blob}"), Dropped),
        (format!("sshfoo {blob}"), Dropped),
        (blob.to_owned(), Dropped),
        (format!("command=\"id\" {own}"), Dropped),
        (format!("restrict {own}"), Dropped),
        (format!("cert-authority {own}"), Dropped),
        (format!("from=\"*\",no-pty {own}"), Dropped),
        (format!("@cert-authority * {own}"), Dropped),
        (format!("root:{own}"), Dropped),
        (format!("{own}\r"), Dropped),
        (format!("{own}\0"), Dropped),
        (format!("{own} \u{1b}]0;x"), Dropped),
        (rsa_line(1024), Dropped),
        (rsa_line(2047), Dropped),
        (
            "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTY=".into(),
            Dropped,
        ),
        ("sk-ssh-ed25519@openssh.com AAAA".into(), Dropped),
        (own.clone(), Kept),
        (format!("{own} me@laptop"), Kept),
        (format!("{own} a b c # d"), Kept),
        (format!("{own} command=\"id\" ssh-rsa AAAA"), Kept),
        (format!("{own} ünïcode"), Kept),
        (format!("{own}   "), Kept),
        (format!("ssh-ed25519   {blob}"), Kept),
        (format!("ssh-ed25519\t{blob}\tx"), Kept),
        (format!("  {own}"), Kept),
    ] {
        judge("key line", &record(&headers, &key_line), fate);
    }
    // Several keys in one record: the second takes the signature's place.
    let text = unsigned(&headers, &own);
    let signature = wrapped(&sign_pss(signer_key(), format!("{text}{own}\n").as_bytes()));
    judge(
        "two keys",
        &format!("{text}{own}\n{signature}\n\n"),
        Dropped,
    );
}

/// The headers of a good record, in its order.
fn good_headers() -> [String; 2] {
    [good_expiry(), instance(INSTANCE)]
}

/// A good record's signed part.
fn good_text() -> String {
    let headers = good_headers();
    unsigned(&headers.each_ref().map(String::as_str), &ed25519_line(CASE))
}

/// The signer's own signature.
fn own(text: &str) -> Vec<u8> {
    sign_pss(signer_key(), text.as_bytes())
}

#[test]
fn signatures_of_another_scheme_or_key_or_over_other_bytes_are_refused() {
    // I-06: RSASSA-PSS, SHA-256, salt of 32 bytes, over exactly these bytes
    let headers = good_headers();
    let headers = headers.each_ref().map(String::as_str);
    let text = good_text();
    let pss = |alg| sign_rsa(signer_key(), text.as_bytes(), alg);
    use ring::signature as s;
    for (flaw, signature) in [
        ("PKCS#1 v1.5 SHA-256", pss(&s::RSA_PKCS1_SHA256)),
        ("PKCS#1 v1.5 SHA-512", pss(&s::RSA_PKCS1_SHA512)),
        ("PSS SHA-384", pss(&s::RSA_PSS_SHA384)),
        ("PSS SHA-512", pss(&s::RSA_PSS_SHA512)),
        ("another key", sign_pss(other_rsa_key(), text.as_bytes())),
        ("of nothing", own("")),
        (
            "without the last line end",
            own(text.trim_end_matches('\n')),
        ),
        ("with the blank line", own(&format!("{text}\n"))),
        ("with CR line ends", own(&text.replace('\n', "\r\n"))),
        (
            "of the key alone",
            own(&format!("{}\n", ed25519_line(CASE))),
        ),
        (
            "of the headers alone",
            own(&unsigned(&headers, "").replace("\n\n", "\n")),
        ),
        (
            "in another order",
            own(&unsigned(&[headers[1], headers[0]], &ed25519_line(CASE))),
        ),
    ] {
        let record = format!("{text}{}\n\n", wrapped(&signature));
        judge(flaw, &record, Dropped);
    }
}

#[test]
fn signatures_of_another_length_or_with_a_flipped_bit_are_refused() {
    // I-06
    let text = good_text();
    let judge = |flaw: &str, signature: &[u8]| {
        let record = format!("{text}{}\n\n", wrapped(signature));
        judge(flaw, &record, Dropped);
    };
    let good = own(&text);
    for (flaw, signature) in [
        ("a byte short", good[..255].to_vec()),
        ("a byte long", [good.as_slice(), &[0]].concat()),
        ("a byte long in front", [&[0], good.as_slice()].concat()),
        ("zeros", vec![0; 256]),
        ("ones", vec![0xff; 256]),
        ("one byte", vec![1]),
    ] {
        judge(flaw, &signature);
    }
    for at in (0..256).step_by(17) {
        let mut flipped = good.clone();
        flipped[at] ^= 1;
        judge("flipped bit", &flipped);
    }
}

#[test]
fn signatures_that_are_not_written_as_one_base64_text_are_refused() {
    // I-06
    let text = good_text();
    let encoded = wrapped(&own(&text));
    for (flaw, signature) in [
        ("none", String::new()),
        ("padding alone", "=".into()),
        ("not base64", "!!!!".into()),
        ("blank inside", encoded.replacen('\n', "\n ", 1)),
        ("unpadded", encoded.trim_end_matches('=').to_owned()),
        ("a header behind it", format!("{encoded}\n#Late=1")),
        ("twice", format!("{encoded}\n{encoded}")),
        ("cut line", encoded[..encoded.len() - 8].to_owned()),
    ] {
        // A signature that happens to need no padding is whole without it.
        if flaw != "unpadded" || encoded.ends_with('=') {
            judge(flaw, &format!("{text}{signature}\n\n"), Dropped);
        }
    }
}

#[test]
fn signatures_are_taken_in_lines_of_any_width() {
    let text = good_text();
    let encoded = wrapped(&own(&text));
    let packed = encoded.replace('\n', "");
    for width in [1, 3, 4, 16, 60, 64, 65, 76, 343, 344, 1000] {
        let lines: Vec<&str> = packed
            .as_bytes()
            .chunks(width)
            .map(|l| std::str::from_utf8(l).unwrap())
            .collect();
        judge(
            "any width",
            &format!("{text}{}\n\n", lines.join("\n")),
            Kept,
        );
    }
    judge("no line end", &format!("{text}{encoded}"), Kept);
    judge("one line end", &format!("{text}{encoded}\n"), Kept);
}

#[test]
fn keys_are_given_for_the_asked_fingerprint_only() {
    // I-18
    let text: String = (1..=20)
        .map(|seed| good_record(&ed25519_line(seed)))
        .collect();
    for seed in 1..=20 {
        let key = PushedKey::parse(&ed25519_line(seed), &BTreeSet::new()).unwrap();
        let fingerprint = key.fingerprint();
        let check = |fingerprint: &str| {
            let check = RecordCheck {
                signer: signer(),
                instance: INSTANCE,
                extra_key_types: &BTreeSet::new(),
                fingerprint: Some(fingerprint),
                now: NOW,
            };
            check.lines(text.as_bytes(), &Silent)
        };
        assert_eq!(check(&fingerprint), format!("{}\n", ed25519_line(seed)));
        for other in [
            &fingerprint[7..],
            &fingerprint.to_lowercase(),
            &format!("{fingerprint}="),
        ] {
            assert_eq!(check(other), "", "{other}");
        }
    }
}

/// Of every partition, dual-stack ones among them.
const DOMAINS: &[&str] = &[
    "amazonaws.com",
    "api.aws",
    "amazonaws.com.cn",
    "api.amazonwebservices.com.cn",
    "amazonaws.eu",
    "c2s.ic.gov",
    "sc2s.sgov.gov",
];

/// Availability, Local and Wavelength Zones, each with its Region.
const ZONES: &[(&str, &str)] = &[
    ("us-east-1a", "us-east-1"),
    ("us-east-1f", "us-east-1"),
    ("ap-northeast-3c", "ap-northeast-3"),
    ("ap-southeast-10z", "ap-southeast-10"),
    ("us-gov-west-1a", "us-gov-west-1"),
    ("us-iso-east-1a", "us-iso-east-1"),
    ("us-isob-east-1a", "us-isob-east-1"),
    ("eu-isoe-west-1a", "eu-isoe-west-1"),
    ("us-isof-south-1a", "us-isof-south-1"),
    ("eusc-de-east-1a", "eusc-de-east-1"),
    ("cn-northwest-1c", "cn-northwest-1"),
    ("mx-central-1a", "mx-central-1"),
    ("us-west-2-lax-1a", "us-west-2"),
    ("us-west-2-lax-1b", "us-west-2"),
    ("us-east-1-bos-1a", "us-east-1"),
    ("ap-southeast-2-akl-1a", "ap-southeast-2"),
    ("us-east-1-wl1-bos-wlz-1", "us-east-1"),
    ("ap-northeast-1-wl1-nrt-wlz-1", "ap-northeast-1"),
    ("eu-central-1-wl1-ber-wlz1", "eu-central-1"),
    ("us-gov-east-1-abc-1a", "us-gov-east-1"),
];

const NO_ZONES: &[&str] = &[
    "",
    "a",
    "-",
    "us",
    "us-",
    "us-east",
    "us-east-",
    "us-east-1",
    "us-1a",
    "east-1a",
    "1-east-1a",
    "us-east-1A",
    "US-EAST-1a",
    "us-east-1ab",
    "us-east-a",
    "us-east-1a1",
    "us-east-1a-",
    "-us-east-1a",
    "us--east-1a",
    "us-east--1a",
    "us-east-1-",
    "us-east-1--1a",
    "us-east-123a",
    "us_east-1a",
    "us.east-1a",
    "us-east-1a.evil.example",
    "us-east-1a/",
    "us-east-1a/../x",
    "us-east-1a ",
    " us-east-1a",
    "us-east-1a\r",
    "us-east-1a\0",
    "\nus-east-1a",
    "us-west-2-lax_1a",
    "us-west-2-LAX-1a",
    "us-east-1a-lax-1a",
    "us-*-1a",
    "üs-east-1a",
    "<html>",
    "us-east-1a<",
    "us-east-1-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
];

const NO_DOMAINS: &[&str] = &[
    "",
    ".",
    "com",
    "aws",
    "amazonaws",
    "amazonaws.com.",
    ".amazonaws.com",
    "amazonaws.com.evil.example",
    "evil-amazonaws.com",
    "AMAZONAWS.COM",
    "amazonaws.com ",
    " amazonaws.com",
    "amazonaws.com\r",
    "amazonaws.com\0",
    "amazonaws.de",
    "amazonaws.com/x",
    "api.aws.evil",
    "api.amazonaws.com",
    "*.amazonaws.com",
    "localhost",
    "169.254.169.254",
    "\namazonaws.com",
];

#[test]
fn zones_and_domains_of_another_form_name_no_signer() {
    for zone in NO_ZONES {
        let name = SignerName::new(zone.as_bytes(), b"amazonaws.com");
        assert!(name.is_err(), "{zone:?}");
    }
    for domain in NO_DOMAINS {
        let name = SignerName::new(b"us-east-1a", domain.as_bytes());
        assert!(name.is_err(), "{domain:?}");
    }
}

#[test]
fn each_zone_of_each_domain_has_its_regions_signer() {
    for (zone, region) in ZONES {
        for domain in DOMAINS {
            let name = SignerName::new(zone.as_bytes(), domain.as_bytes()).unwrap();
            let expected = format!("managed-ssh-signer.{region}.{domain}");
            assert_eq!(name.to_string(), expected);
        }
    }
}

/// I-01: whatever could change a path, and what SendSSHPublicKey does not take as InstanceOSUser.
const NO_NAMES: &[&str] = &[
    "",
    " ",
    ".",
    "..",
    "./x",
    "../x",
    "a/..",
    "a/b",
    "/a",
    "a/",
    "a%2f",
    "a%",
    "%61",
    "a?b",
    "?",
    "a#b",
    "#",
    "a&b",
    "a=b",
    "a;b",
    "a:b",
    "a,b",
    "a+b",
    "a b",
    " a",
    "a ",
    "a\t",
    "a\n",
    "a\r\nHost: x",
    "a\0",
    "-x",
    "--",
    "-",
    "@",
    ".a",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa@",
    "$",
    "a$b",
    "123",
    "12$",
    "a\\b",
    "DOMAIN\\user",
    "a'b",
    "a\"b",
    "a`b",
    "a|b",
    "a<b",
    "a>b",
    "a*b",
    "[a]",
    "{a}",
    "a~b",
    "a!b",
    "a^b",
    "\u{430}dmin",
    "ü",
    "a\u{200b}b",
    "a\u{7f}",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
];

const NAMES: &[&str] = &[
    "ubuntu",
    "ec2-user",
    "Admin",
    "ROOT",
    "a",
    "_",
    "_svc",
    "j.doe",
    "j.doe@corp.example",
    "host$",
    "1a",
    "12-3",
    "9.z",
    "a..b",
    "a.",
    "a@",
    "1.",
    "a-",
    "a_",
    "user-name_with.all@signs-9",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
];

#[test]
fn user_names_that_send_ssh_public_key_refuses_are_never_asked_about() {
    for name in NO_NAMES {
        assert!(PushedUser::new(name).is_none(), "{name:?}");
    }
}

#[test]
fn user_names_that_send_ssh_public_key_takes_are_taken() {
    for name in NAMES {
        assert!(PushedUser::new(name).is_some(), "{name}");
    }
}

type Change<'a> = &'a dyn Fn(&mut Staple);

/// Whether the leaf's staple is taken once it has been changed.
fn is_taken(world: &World, change: Change<'_>) -> bool {
    let mut staple = Staple::new(&world.leaf, &world.intermediate);
    change(&mut staple);
    let der = staple.der(&world.intermediate.key);
    ocsp::check(&der, &path_of(world).links()[0], NOW).is_ok()
}

#[test]
fn staples_are_taken_between_this_and_next_update_with_the_official_tolerance() {
    // RFC 6960, with 300 s; without nextUpdate never
    let world = World::new();
    for this_update in [
        NOW - 86_400 * 30,
        NOW - 1,
        NOW,
        NOW + 299,
        NOW + 300,
        NOW + 301,
        NOW + 86_400,
    ] {
        for next_update in [
            None,
            Some(NOW - 301),
            Some(NOW - 300),
            Some(NOW),
            Some(NOW + 1),
            Some(NOW + 86_400),
        ] {
            let good =
                this_update <= NOW + 300 && next_update.is_some_and(|next| next + 300 >= NOW);
            let found = is_taken(&world, &|s| {
                (s.this_update, s.next_update) = (this_update, next_update)
            });
            assert_eq!(found, good, "{this_update} {next_update:?}");
        }
    }
}

#[test]
fn staples_that_do_not_plainly_say_good_are_refused() {
    // RFC 6960
    let world = World::new();
    let refused: [(&str, Change<'_>); 14] = [
        ("revoked", &|s| s.status = Staple::revoked()),
        ("unknown", &|s| s.status = UNKNOWN.to_vec()),
        ("no status of the three", &|s| s.status = vec![0x83, 0]),
        ("good with contents", &|s| s.status = vec![0x80, 1, 0]),
        ("malformed request", &|s| s.outer_status = 1),
        ("internal error", &|s| s.outer_status = 2),
        ("try later", &|s| s.outer_status = 3),
        ("signature required", &|s| s.outer_status = 5),
        ("unauthorised", &|s| s.outer_status = 6),
        ("version 2", &|s| s.version = Some(1)),
        ("critical extension", &|s| s.critical_extension = true),
        ("critical extension of all", &|s| {
            s.critical_extension_of_all = true
        }),
        ("no answer", &|s| s.copies = 0),
        ("two answers", &|s| s.copies = 2),
    ];
    for (flaw, change) in refused {
        assert!(!is_taken(&world, change), "{flaw}");
        // A SHA-256 certID makes none of them better.
        let with_sha256: Change<'_> = &|s| {
            s.sha256_ids = true;
            change(s);
        };
        assert!(!is_taken(&world, with_sha256), "{flaw}");
    }
    assert!(is_taken(&world, &|s| s.sha256_ids = true));
    assert!(is_taken(&world, &|s| s.version = Some(0)));
}

#[test]
fn staples_for_another_certificate_or_by_another_issuer_are_refused() {
    let world = World::new();
    let path = path_of(&world);
    for (certificate, issuer) in [
        (&world.leaf, &world.intermediate),
        (&world.intermediate.der, &world.root),
    ] {
        for (link, own) in path
            .links()
            .iter()
            .zip([&world.leaf, &world.intermediate.der])
        {
            for signed_by in [&world.intermediate, &world.root] {
                let der = Staple::new(certificate, issuer).der(&signed_by.key);
                let fits = certificate == own && std::ptr::eq(issuer, signed_by);
                assert_eq!(ocsp::check(&der, link, NOW).is_ok(), fits);
            }
        }
    }
}

const KEYS: &str = "meta-data/managed-ssh-keys/active-keys/ubuntu/";

/// What a whole run gives where one answer of a sound service is replaced.
fn run_with(world: &World, method: &str, path: &str, answer: Answer) -> String {
    let sys = tempfile::tempdir().unwrap();
    let mut imds = Imds::start().with("HEAD", &format!("/latest/{KEYS}"), Answer::ok(""));
    let names: Vec<String> = path_of(world)
        .links()
        .iter()
        .map(super::signer::Link::staple_name)
        .collect();
    let mut bodies = vec![
        ("meta-data/instance-id/".to_owned(), INSTANCE.to_owned()),
        (ZONE.to_owned(), "us-east-1a".to_owned()),
        (DOMAIN.to_owned(), "amazonaws.com".to_owned()),
        (CHAIN.to_owned(), world.chain()),
        (KEYS.to_owned(), good_record(&ed25519_line(1))),
    ];
    for (name, staple) in names.iter().zip(world.staples()) {
        bodies.push((
            format!("meta-data/managed-ssh-keys/signer-ocsp/{name}"),
            wrapped(&staple),
        ));
    }
    for (path, body) in &bodies {
        imds = imds.with("GET", &format!("/latest/{path}"), Answer::ok(body));
    }
    let path = path
        .replace("STAPLE1", &names[0])
        .replace("STAPLE2", &names[1]);
    imds.set(method, &format!("/latest/{path}"), answer);
    let settings = Settings {
        roots: RootsSource::Given(Roots::from_pem(pem(&[&world.root.der]).as_bytes()).unwrap()),
        endpoint: imds.url().parse().unwrap(),
        extra_key_types: BTreeSet::new(),
    };
    let question = Question {
        user: "ubuntu".to_owned(),
        fingerprint: None,
    };
    let machine = crate::machine::tests::nitro(sys.path(), &format!("{INSTANCE}\n"));
    let deadline = Deadline::after(std::time::Duration::from_secs(5));
    let answer = authorized_keys(&question, &settings, &machine, &Silent, NOW, deadline);
    answer.map(super::Answer::into_lines).unwrap_or_default()
}

const REQUESTS: [(&str, &str); 9] = [
    ("PUT", "api/token"),
    ("GET", "meta-data/instance-id/"),
    ("HEAD", KEYS),
    ("GET", ZONE),
    ("GET", DOMAIN),
    ("GET", CHAIN),
    ("GET", KEYS),
    ("GET", "meta-data/managed-ssh-keys/signer-ocsp/STAPLE1"),
    ("GET", "meta-data/managed-ssh-keys/signer-ocsp/STAPLE2"),
];

#[test]
fn answers_that_are_no_success_give_no_keys() {
    // I-02, I-03, I-05: whichever of the nine it is, and whatever stands in it
    let world = World::new();
    let body = good_record(&ed25519_line(1));
    for (method, path) in REQUESTS {
        for status in [
            201, 204, 206, 301, 302, 304, 307, 308, 400, 401, 403, 404, 405, 418, 429, 500, 502,
            503,
        ] {
            let answer = Answer::status(status, &body);
            assert_eq!(
                run_with(&world, method, path, answer),
                "",
                "{method} {path} {status}"
            );
        }
    }
}

#[test]
fn answers_that_are_no_http_give_no_keys() {
    // I-04
    let world = World::new();
    let raw = |text: String| Answer::Raw(text.into_bytes());
    for (method, path) in REQUESTS {
        for (flaw, answer) in [
            ("nothing", Answer::Hangup),
            (
                "another protocol",
                raw("SSH-2.0-OpenSSH_9.2\r\n\r\n".into()),
            ),
            ("no version", raw("200 OK\r\n\r\n".into())),
            (
                "HTTP/2",
                raw("HTTP/2 200 OK\r\ncontent-length: 0\r\n\r\n".into()),
            ),
            ("half a status", raw("HTTP/1.1 20".into())),
            (
                "two digits",
                raw("HTTP/1.1 20 OK\r\ncontent-length: 0\r\n\r\n".into()),
            ),
            (
                "half a head",
                raw("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n".into()),
            ),
            (
                "header without colon",
                raw("HTTP/1.1 200 OK\r\nx\r\ncontent-length: 3\r\n\r\nabc".into()),
            ),
            (
                "two lengths",
                raw("HTTP/1.1 200 OK\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabcd".into()),
            ),
            (
                "negative length",
                raw("HTTP/1.1 200 OK\r\ncontent-length: -3\r\n\r\nabc".into()),
            ),
            (
                "chunks",
                raw(
                    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
                        .into(),
                ),
            ),
            (
                "endless head",
                raw(format!("HTTP/1.1 200 OK\r\n{}", "a: b\r\n".repeat(2000))),
            ),
            (
                "bytes that are no text",
                Answer::Raw(b"HTTP/1.1 200 OK\r\nx: \xff\xfe\r\n\r\n".to_vec()),
            ),
        ] {
            assert_eq!(
                run_with(&world, method, path, answer),
                "",
                "{method} {path}: {flaw}"
            );
        }
    }
}

#[test]
fn answers_of_the_wrong_size_or_sense_give_no_keys() {
    // I-04, I-15
    let world = World::new();
    for (method, path) in REQUESTS.into_iter().filter(|(method, _)| *method != "HEAD") {
        for (flaw, answer) in [
            ("empty", Answer::ok("")),
            ("blank", Answer::ok("\n")),
            (
                "short",
                Answer::Raw(b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\nabc".to_vec()),
            ),
            (
                "no length",
                Answer::Raw(b"HTTP/1.1 200 OK\r\n\r\nabc".to_vec()),
            ),
            (
                "1 GB",
                Answer::Raw(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n".to_vec()),
            ),
            ("70 kB", Answer::ok(&"x".repeat(70_000))),
            (
                "a page",
                Answer::ok("<html><body>error 200</body></html>\n"),
            ),
            ("NULs", Answer::ok("\0\0\0\0")),
            ("JSON", Answer::ok("{\"Code\": \"Success\"}")),
        ] {
            assert_eq!(run_with(&world, method, path, answer), "", "{path}: {flaw}");
        }
    }
}

#[test]
fn sound_answers_in_any_dress_give_keys() {
    let world = World::new();
    let expected = format!("{}\n", ed25519_line(1));
    let zone = |text: &str| run_with(&world, "GET", ZONE, Answer::Raw(text.as_bytes().to_vec()));
    for dressed in [
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nus-east-1a",
        "HTTP/1.1 200 \r\nCONTENT-LENGTH:10\r\n\r\nus-east-1a",
        "HTTP/1.1 200 OK\r\ncontent-length:   10  \r\nServer: EC2ws\r\nDate: x\r\n\r\nus-east-1a",
        "HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nus-east-1a\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\nConnection: close\r\n\r\nus-east-1a",
        "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nus-east-1a",
        "HTTP/1.0 200 OK\r\n\r\nus-east-1a",
        "HTTP/1.0 200 OK\r\nContent-Length: 10\r\n\r\nus-east-1a",
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nus-east-1aSURPLUS",
    ] {
        assert_eq!(zone(dressed), expected, "{dressed}");
    }
}

/// Makes the seeds of `fuzz/corpus` and the chain in `fuzz/fixtures` anew, in the test PKI's formats.
/// Run: `cargo test -p eic-agent --lib -- --ignored the_fuzz_seeds_can_be_made_again`
#[test]
#[ignore = "writes into fuzz/"]
fn the_fuzz_seeds_can_be_made_again() {
    let world = World::new();
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz");
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    };
    write("fixtures/chain.pem", world.chain().as_bytes());
    write("fixtures/root.pem", pem(&[&world.root.der]).as_bytes());
    write("fixtures/intermediate.der", &world.intermediate.der);
    write("corpus/certificates/signer", &world.leaf);
    write("corpus/certificates/intermediate", &world.intermediate.der);
    let staple = |change: &dyn Fn(&mut Staple)| {
        let mut staple = Staple::new(&world.leaf, &world.intermediate);
        change(&mut staple);
        staple.der(&world.intermediate.key)
    };
    write("corpus/staples/good", &staple(&|_| {}));
    write("corpus/staples/sha256", &staple(&|s| s.sha256_ids = true));
    write(
        "corpus/staples/revoked",
        &staple(&|s| s.status = Staple::revoked()),
    );
    write(
        "corpus/staples/critical",
        &staple(&|s| s.critical_extension = true),
    );
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let responder = world.intermediate.leaf(&key, |params| {
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::OcspSigning];
    });
    let delegated = Staple::new(&world.leaf, &world.intermediate).delegated(responder);
    write("corpus/staples/delegated", &delegated.der(&key));
    let two = [good_record(&ed25519_line(1)), good_record(&rsa_line(2048))].concat();
    write("corpus/records/two", two.as_bytes());
    write(
        "corpus/records/repeated",
        signed(&[good_expiry(), good_expiry(), instance(INSTANCE)]).as_bytes(),
    );
}
