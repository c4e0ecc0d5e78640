//! The wildcard matcher against a naive reference, and against the patterns that broke others.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;

fn like(pattern: &str, value: &str) -> bool {
    matches(&compile(pattern), value)
}

/// The definition, with exponential cost: what the matcher must agree with.
fn naive(pattern: &[char], value: &[char]) -> bool {
    match (pattern.split_first(), value.split_first()) {
        (None, None) => true,
        (None, Some(_)) => false,
        (Some(('*', rest)), None) => naive(rest, value),
        (Some(('*', rest)), Some((_, shorter))) => naive(rest, value) || naive(pattern, shorter),
        (Some(_), None) => false,
        (Some((p, rest)), Some((v, shorter))) => (*p == '?' || p == v) && naive(rest, shorter),
    }
}

#[test]
fn a_question_mark_never_stands_for_nothing() {
    // C-06; aws-iam-authenticator reads `?` as zero or one.
    assert!(!like("a?", "a"));
    assert!(!like("?", ""));
    assert!(like("a?", "ab"));
    assert!(!like("a?", "abc"));
    assert!(like("??", "é\u{1f511}"), "one character, not one byte");
}

#[test]
fn regular_expression_characters_are_ordinary() {
    // C-06
    for text in [".", "(", "+", "[a-z]", "\\d", "^a$", "a|b", "{2}"] {
        assert!(like(text, text));
        assert!(!like(text, "a"));
        assert!(!like(text, "aa"));
    }
}

#[test]
fn a_star_stands_for_anything_and_nothing() {
    for (pattern, value, expected) in [
        ("*", "", true),
        ("*", "a:b/c", true),
        ("", "", true),
        ("", "a", false),
        ("a*", "a", true),
        ("a*c", "abc", true),
        ("a*c", "abcb", false),
        ("*a*b", "xaxbxb", true),
        ("**", "", true),
        ("a**b", "ab", true),
        ("*aab", "aaaab", true),
    ] {
        assert_eq!(like(pattern, value), expected, "{pattern} {value}");
    }
}

#[test]
fn hostile_patterns_cost_no_more_than_their_length_times_the_values() {
    // C-06: 1,000 `*` against 2 kB, and the worst case of retrying the last star.
    let value = "a".repeat(2048);
    let started = Instant::now();
    assert!(!like(
        &"*a".repeat(1000).replace("aa", "a"),
        &"b".repeat(2048)
    ));
    assert!(!like(&format!("{}b", "a*".repeat(1000)), &value));
    assert!(!like(&format!("*{}b", "a".repeat(1023)), &value));
    assert!(!like(&format!("{}b", "*?".repeat(1000)), &value));
    let bomb = compile(&format!("{}b", "*a".repeat(1000)));
    assert_eq!(matches_unknown_path(&bomb, &value, "x"), Truth::No);
    assert!(
        started.elapsed() < Duration::from_secs(5),
        "{:?}",
        started.elapsed()
    );
}

#[test]
fn a_wildcard_that_an_unknown_path_could_change_is_unknown() {
    let prefix = "arn:aws:iam::111122223333:role/";
    for (pattern, expected) in [
        ("*", Truth::Yes),
        ("arn:aws:iam::111122223333:role/*", Truth::Yes),
        ("arn:aws:iam::111122223333:role/*Dev", Truth::Yes),
        ("arn:aws:iam::111122223333:*", Truth::Yes),
        ("arn:aws:iam::111122223333:role/Dev", Truth::Yes),
        ("arn:aws:iam::111122223333:role/D*", Truth::Unknown),
        ("arn:aws:iam::111122223333:role/De?", Truth::Unknown),
        ("arn:aws:iam::111122223333:role/team/Dev", Truth::Unknown),
        ("arn:aws:iam::111122223333:role/team/*", Truth::Unknown),
        (
            "arn:aws:iam::111122223333:role/aws-reserved/sso.amazonaws.com/*/AWSReservedSSO_Dev_?",
            Truth::No,
        ),
        // A path may end in anything, so the last `*` may stand for `x/Dev`.
        (
            "arn:aws:iam::111122223333:role/aws-reserved/sso.amazonaws.com/*/AWSReservedSSO_Dev_*",
            Truth::Unknown,
        ),
        ("arn:aws:iam::111122223333:role/team/Ops", Truth::No),
        ("arn:aws:iam::111122223333:role/Ops", Truth::No),
        ("arn:aws:iam::999999999999:role/*", Truth::No),
        ("arn:aws:iam::111122223333:user/*", Truth::No),
    ] {
        assert_eq!(
            matches_unknown_path(&compile(pattern), prefix, "Dev"),
            expected,
            "{pattern}"
        );
    }
}

proptest! {
    #[test]
    fn the_matcher_agrees_with_the_definition(pattern in "[ab*?]{0,10}", value in "[ab]{0,10}") {
        let p: Vec<char> = pattern.chars().collect();
        let v: Vec<char> = value.chars().collect();
        prop_assert_eq!(like(&pattern, &value), naive(&p, &v));
    }

    #[test]
    fn the_matcher_agrees_with_the_definition_beyond_ascii(pattern in "[aé*?\u{1f511}]{0,8}", value in "[aé\u{1f511}]{0,8}") {
        let p: Vec<char> = pattern.chars().collect();
        let v: Vec<char> = value.chars().collect();
        prop_assert_eq!(like(&pattern, &value), naive(&p, &v));
    }

    #[test]
    fn an_unknown_path_is_yes_only_when_every_path_matches(pattern in "r/[ab/*?]{0,7}", name in "[ab]{1,3}") {
        let compiled = compile(&pattern);
        let answer = matches_unknown_path(&compiled, "r/", &name);
        let paths = ["", "a/", "b/", "a/b/", "ab/a/", "bb/"];
        let hits: Vec<bool> = paths.iter().map(|p| like(&pattern, &format!("r/{p}{name}"))).collect();
        match answer {
            Truth::No => prop_assert!(hits.iter().all(|hit| !hit)),
            Truth::Yes if pattern.contains(['*', '?']) => prop_assert!(hits.iter().all(|hit| *hit)),
            Truth::Yes => prop_assert!(hits[0]),
            Truth::Unknown => {}
        }
    }

    #[test]
    fn a_form_can_be_matched_when_a_text_of_it_is(pattern in "[ab*?]{0,6}", form in "[ab*]{0,6}", value in "[ab]{0,6}") {
        if like(&pattern, &value) && like(&form, &value) {
            prop_assert!(can_match(&compile(&pattern), &shape(&form)));
        }
    }

    #[test]
    fn a_literal_form_can_be_matched_exactly_when_it_matches(pattern in "[ab:*?]{0,8}", value in "[ab:]{0,8}") {
        prop_assert_eq!(can_match(&compile(&pattern), &shape(&value)), like(&pattern, &value));
    }
}

#[test]
fn a_part_of_a_form_never_holds_a_separator() {
    for (pattern, form, expected) in [
        ("a:*:x", "a:*:*", true),
        ("a:b:c:x", "a:*:x", false),
        ("a:instances/*", "a:*instance/*", false),
        ("*", "a:*/b", true),
        ("a:??", "a:*", true),
    ] {
        assert_eq!(
            can_match(&compile(pattern), &shape(form)),
            expected,
            "{pattern} {form}"
        );
    }
}
