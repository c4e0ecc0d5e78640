//! `[bundle]`: how long hosts may go without news, and how many wait for it at once.

use eic_protocol::trust::host_view::Stage;

use super::document::Section;

/// `[bundle]`
#[derive(Clone, Copy, Debug)]
pub struct BundleConfig {
    /// After this long without a new bundle a host tells that it is out of date. Seconds.
    pub refresh_seconds: u64,
    /// After this long no certificate opens it any more; none: never. Seconds.
    pub hard_stop_seconds: Option<u64>,
    /// Most requests that wait for news at once; further ones are answered immediately.
    pub long_polls: usize,
    /// How far the rollout is on hosts whose tag `eic:stage` does not say more.
    pub stage: Stage,
}

impl Default for BundleConfig {
    fn default() -> Self {
        Self {
            refresh_seconds: 86_400,
            hard_stop_seconds: None,
            long_polls: 1_024,
            stage: Stage::Hybrid,
        }
    }
}

/// The words of `stage` and of the tag `eic:stage`.
pub(crate) const STAGES: [(&str, Stage); 2] = [
    ("hybrid", Stage::Hybrid),
    ("certificates-only", Stage::CertificatesOnly),
];

pub(super) fn read(section: &Section<'_>) -> BundleConfig {
    let default = BundleConfig::default();
    let refresh = section.number("refresh_seconds", 600..=30 * 86_400);
    let hard_stop_seconds = section.number("hard_stop_seconds", 86_400..=365 * 86_400);
    let long_polls = section.number("long_polls", 0..=60_000);
    let config = BundleConfig {
        refresh_seconds: refresh.unwrap_or(default.refresh_seconds),
        hard_stop_seconds,
        long_polls: long_polls
            .and_then(|n| n.try_into().ok())
            .unwrap_or(default.long_polls),
        stage: section.word("stage", &STAGES).unwrap_or(default.stage),
    };
    if hard_stop_seconds.is_some_and(|stop| stop < 2 * config.refresh_seconds) {
        section.mistake(
            "hard_stop_seconds",
            "must be at least twice `refresh_seconds`: hosts must have time to alarm first",
        );
    }
    section.refuse_unknown();
    config
}
