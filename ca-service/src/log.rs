//! Logs: one JSON object per line on stderr. Nothing secret is in them, at any level.

use tracing::Level;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// Crates whose messages are ours, and written with that in mind.
const OURS: [&str; 3] = ["eic_ca", "eic_aws", "eic_protocol"];

/// Starts logging. Other crates' messages stay at warnings, whatever `level` and the environment say:
/// what an HTTP or AWS library writes at trace level holds headers and credentials (threats G-11).
/// A process has one log; a second start changes nothing.
pub fn start(level: Level) {
    let layer = tracing_subscriber::fmt::layer()
        .json()
        .flatten_event(true)
        .with_writer(std::io::stderr);
    let _ = tracing_subscriber::registry()
        .with(filter(level))
        .with(layer)
        .try_init();
}

fn filter(level: Level) -> Targets {
    let level = LevelFilter::from_level(level);
    let others = Targets::new().with_default(level.min(LevelFilter::WARN));
    OURS.iter()
        .fold(others, |targets, name| targets.with_target(*name, level))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_crates_never_log_below_warnings() {
        // G-11
        let filter = filter(Level::TRACE);
        for other in [
            "hyper::proto::h1",
            "rustls::server",
            "aws_config::profile",
            "reqwest",
        ] {
            assert!(!filter.would_enable(other, &Level::INFO), "{other}");
            assert!(filter.would_enable(other, &Level::WARN), "{other}");
        }
        assert!(filter.would_enable("eic_ca::http", &Level::TRACE));
    }
}
