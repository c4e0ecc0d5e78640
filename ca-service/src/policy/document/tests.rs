//! A refusal names the file, the statement, the element and what to do. The semantics tables hold the cases.

use super::*;

fn refusal(document: &str) -> LoadError {
    let settings = Settings::default();
    load(
        Origin {
            file: "dev.json",
            attached: None,
            settings: &settings,
        },
        document.as_bytes(),
    )
    .1
    .swap_remove(0)
}

#[test]
fn a_refusal_names_file_statement_operator_and_key() {
    // C-03
    let error = refusal(
        r#"{"Version":"2012-10-17","Statement":[
            {"Effect":"Allow","Principal":"*","Action":"*","Resource":"*"},
            {"Sid":"Dev","Effect":"Allow","Principal":"*","Action":"*","Resource":"*",
             "Condition":{"StringEquals":{"aws:username":"alice","eic:Foo":"x"}}}]}"#,
    );
    assert_eq!(
        error.to_string(),
        "load policy file `dev.json`, statement 2 (`Dev`), Condition `StringEquals` `eic:Foo`: unknown condition key"
    );
    assert_eq!(
        (error.file(), error.statement().unwrap().index),
        ("dev.json", 2)
    );
    assert_eq!(error.element(), Some("Condition `StringEquals` `eic:Foo`"));
}

#[test]
fn a_refusal_of_the_json_names_line_and_member() {
    // C-04
    let error =
        refusal("{\"Version\":\"2012-10-17\",\n\"Version\":\"2012-10-17\",\"Statement\":[]}");
    let text = error.to_string();
    assert!(
        text.contains("`Version` is there twice") && text.contains("line 2"),
        "{text}"
    );
}

#[test]
fn names_of_strangers_are_shown_without_control_characters() {
    // H-15
    let error = refusal("{\"Version\":\"2012-10-17\",\"Statement\":[],\"x\u{202e}\u{2028}\":1}");
    assert!(error.to_string().is_ascii(), "{error}");
}

#[test]
fn every_cause_of_a_refusal_is_one_line_without_a_final_full_stop() {
    for document in [
        "{}",
        "[]",
        "{\"Statement\":[{}]}",
        "{\"Statement\":[{\"Effect\":\"x\"}]}",
        "{\"Version\":\"1\",\"Statement\":[]}",
    ] {
        let text = refusal(document).to_string();
        assert!(!text.contains('\n') && !text.ends_with('.'), "{text}");
    }
}

#[test]
fn a_sid_that_is_too_long_is_refused() {
    let statement = |sid: &str| {
        format!(
            r#"{{"Statement":[{{"Sid":"{sid}","Effect":"Allow","Principal":"*","Action":"*","Resource":"*"}}]}}"#
        )
    };
    assert!(
        refusal(&statement(&"a".repeat(129)))
            .to_string()
            .contains("128 bytes")
    );
}
