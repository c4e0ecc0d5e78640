//! `[limits]`: what one request, one peer and one caller may cost.

use super::document::Section;

/// `[limits]`
#[derive(Clone, Copy, Debug)]
pub struct LimitsConfig {
    /// Largest request body. Bytes.
    pub body_bytes: usize,
    /// Most header fields of a request.
    pub headers: usize,
    /// Most connections at once.
    pub connections: usize,
    /// Most connections of one peer address at once; a trusted proxy is not counted.
    pub connections_per_peer: usize,
    /// Requests per second that one caller may make, on average.
    pub caller_rate: u32,
    /// Requests per second that one peer address may make, on average.
    pub peer_rate: u32,
    /// How many seconds' worth of requests may come at once.
    pub burst_seconds: u32,
    /// STS calls at once.
    pub sts_calls: usize,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            body_bytes: 64 * 1024,
            headers: 64,
            connections: 2_048,
            connections_per_peer: 256,
            caller_rate: 50,
            peer_rate: 500,
            burst_seconds: 4,
            sts_calls: 64,
        }
    }
}

pub(super) fn read(section: &Section<'_>) -> LimitsConfig {
    let default = LimitsConfig::default();
    let size = |key, range, default: usize| {
        section
            .number(key, range)
            .and_then(|n| n.try_into().ok())
            .unwrap_or(default)
    };
    let rate = |key, range, default: u32| {
        section
            .number(key, range)
            .and_then(|n| n.try_into().ok())
            .unwrap_or(default)
    };
    let limits = LimitsConfig {
        body_bytes: size("body_bytes", 1_024..=1_048_576, default.body_bytes),
        headers: size("headers", 16..=256, default.headers),
        connections: size("connections", 1..=65_536, default.connections),
        connections_per_peer: size(
            "connections_per_peer",
            1..=65_536,
            default.connections_per_peer,
        ),
        caller_rate: rate("caller_rate", 1..=1_000_000, default.caller_rate),
        peer_rate: rate("peer_rate", 1..=1_000_000, default.peer_rate),
        burst_seconds: rate("burst_seconds", 1..=60, default.burst_seconds),
        sts_calls: size("sts_calls", 1..=1_024, default.sts_calls),
    };
    section.refuse_unknown();
    limits
}
