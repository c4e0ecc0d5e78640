//! Records for people and for programs. What strangers chose is made safe for a terminal (G-08).

use std::io::{self, Write};

use eic_protocol::text::printable;
use serde_json::Value;

use super::query::Entry;

const WIDTHS: [usize; 5] = [20, 21, 30, 30, 26];

/// The records as a table: when, what, who, on what, and what came of it.
///
/// # Errors
/// The writer's.
pub fn print_table(out: &mut impl Write, entries: &[Entry], with_header: bool) -> io::Result<()> {
    if with_header {
        row(
            out,
            &["TIME", "EVENT", "WHO", "WHAT", "RESULT", "REQUEST"].map(str::to_owned),
        )?;
    }
    entries
        .iter()
        .try_for_each(|entry| row(out, &cells(&entry.value())))
}

/// The records as they were hashed: one line of ASCII JSON each.
///
/// # Errors
/// The writer's.
pub fn print_json(out: &mut impl Write, entries: &[Entry]) -> io::Result<()> {
    entries
        .iter()
        .try_for_each(|entry| writeln!(out, "{}", entry.json))
}

fn row(out: &mut impl Write, cells: &[String; 6]) -> io::Result<()> {
    let mut line = String::new();
    for (cell, width) in cells.iter().zip(WIDTHS.iter().map(Some).chain([None])) {
        let shown = printable(cell);
        match width {
            Some(width) => line.push_str(&format!("{shown:<width$}  ")),
            None => line.push_str(&shown),
        }
    }
    writeln!(out, "{}", line.trim_end())
}

fn cells(record: &Value) -> [String; 6] {
    let text = |pointer: &str| {
        record
            .pointer(pointer)
            .and_then(Value::as_str)
            .map(str::to_owned)
    };
    let first = |pointers: &[&str]| {
        pointers
            .iter()
            .find_map(|p| text(p))
            .unwrap_or_else(|| "-".to_owned())
    };
    let who = who(record);
    let what = match (
        text("/requestParameters/osUser"),
        text("/requestParameters/instanceId"),
    ) {
        (Some(user), Some(instance)) => format!("{user}@{instance}"),
        (Some(user), None) => format!("{user}@fleet/{}", first(&["/requestParameters/fleet"])),
        _ => first(&[
            "/requestParameters/principal",
            "/requestParameters/instanceId",
            "/requestParameters/who",
            "/additionalEventData/principals",
        ]),
    };
    let result = match (text("/errorCode"), text("/responseElements/serial")) {
        (Some(code), _) => code,
        (None, Some(serial)) => format!("serial {serial}"),
        (None, None) => "ok".to_owned(),
    };
    [
        first(&["/eventTime"]),
        first(&["/eventName"]),
        who,
        what,
        result,
        first(&["/requestID"]),
    ]
}

/// `role/Dev/alice` instead of a whole ARN; `?` behind a name that its bearer chose.
fn who(record: &Value) -> String {
    let identity = record.get("userIdentity");
    let field = |name: &str| identity.and_then(|i| i.get(name)).and_then(Value::as_str);
    let name = field("arn").and_then(|arn| arn.splitn(6, ':').nth(5));
    let name = name
        .or_else(|| field("userName"))
        .or_else(|| field("principalId"))
        .or_else(|| field("type"));
    let claimed = field("nameStanding") == Some("claimed");
    format!("{}{}", name.unwrap_or("-"), if claimed { "?" } else { "" })
}
