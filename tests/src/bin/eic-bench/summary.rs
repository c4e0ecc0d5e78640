//! The table that people read and the JSON that programs read. Every value is measured in this run.

use std::path::Path;

use serde::Serialize;

/// One line of design's "numbers to reach".
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    /// What was measured.
    pub(crate) name: &'static str,
    /// Ours.
    pub(crate) value: f64,
    /// Of value and peer value.
    pub(crate) unit: &'static str,
    /// Whom we compare with; none where no peer can be installed.
    pub(crate) peer: Option<&'static str>,
    /// Theirs, measured in the same run.
    pub(crate) peer_value: Option<f64>,
    /// Ours divided by theirs.
    pub(crate) ratio: Option<f64>,
    /// What to reach, in words.
    pub(crate) goal: &'static str,
    /// Whether it was reached; none where there is no goal.
    pub(crate) met: Option<bool>,
}

/// How a row's goal is judged.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Goal {
    /// Our value is at most this.
    AtMost(f64),
    /// Our value is at least this.
    AtLeast(f64),
    /// Our value divided by the peer's is at least this.
    RatioAtLeast(f64),
    /// Our value divided by the peer's is at most this.
    RatioAtMost(f64),
    /// Only printed.
    None,
}

impl Row {
    /// A row, judged.
    pub(crate) fn new(
        name: &'static str,
        value: f64,
        unit: &'static str,
        peer: Option<(&'static str, f64)>,
        (goal, words): (Goal, &'static str),
    ) -> Self {
        let ratio = peer.map(|(_, theirs)| value / theirs);
        let met = match goal {
            Goal::AtMost(limit) => Some(value <= limit),
            Goal::AtLeast(limit) => Some(value >= limit),
            Goal::RatioAtLeast(limit) => ratio.map(|r| r >= limit),
            Goal::RatioAtMost(limit) => ratio.map(|r| r <= limit),
            Goal::None => None,
        };
        Self {
            name,
            value,
            unit,
            peer: peer.map(|p| p.0),
            peer_value: peer.map(|p| p.1),
            ratio,
            goal: words,
            met,
        }
    }
}

/// Prints the table.
pub(crate) fn print(rows: &[Row]) {
    println!(
        "{:<52} {:>12} {:<6} {:<20} {:>12} {:>7}  goal",
        "measured", "eic", "", "peer", "", "ratio"
    );
    for row in rows {
        let number = |n: Option<f64>| n.map_or_else(|| "-".to_owned(), |n| format!("{n:.2}"));
        let met = match row.met {
            Some(true) => "met",
            Some(false) => "NOT met",
            None => "printed only",
        };
        println!(
            "{:<52} {:>12.2} {:<6} {:<20} {:>12} {:>7}  {} ({met})",
            row.name,
            row.value,
            row.unit,
            row.peer.unwrap_or("-"),
            number(row.peer_value),
            number(row.ratio),
            row.goal,
        );
    }
}

/// Writes the JSON list.
pub(crate) fn write(rows: &[Row], file: &Path) -> Result<(), String> {
    let folder = file.parent().ok_or("no folder")?;
    std::fs::create_dir_all(folder).map_err(|e| e.to_string())?;
    let json = serde_json::to_vec_pretty(rows).map_err(|e| e.to_string())?;
    std::fs::write(file, json).map_err(|e| format!("{}: {e}", file.display()))
}
