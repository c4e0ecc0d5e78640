//! The default configuration: while the CA holds the question for news, everything else goes on.

use std::time::{Duration, Instant};

use crate::sandbox::wait_until;
use crate::station::Station;

/// How soon the service looks at its files, with some slack for a busy machine. Less than the CA's wait by far.
const SOON: Duration = Duration::from_secs(15);

#[test]
fn while_the_ca_waits_for_news_damaged_files_are_mended() {
    // F-10
    let Some(mut station) = Station::new("") else {
        return;
    };
    station.configure(|toml| toml.replace("poll_seconds = 2\n", ""));
    station.ca.serve(station.authority.response());
    let _service = station.service();
    station.wait_for_sequence(10);
    let is_held = |station: &Station| {
        let asked = station.ca.asked();
        asked
            .last()
            .is_some_and(|asked| asked.line.ends_with("&wait=50"))
    };
    wait_until("the question that is held", || is_held(&station));
    let polls = station.ca.asked().len();
    let damaged = Instant::now();
    let list = station.host.path("var-lib/eic/revoked-keys");
    let whole = std::fs::read(&list).unwrap();
    std::fs::write(&list, "").unwrap();
    wait_until("the list", || std::fs::read(&list).unwrap() == whole);
    assert!(damaged.elapsed() < SOON, "{:?}", damaged.elapsed());
    assert_eq!(
        station.ca.asked().len(),
        polls,
        "the question is still held"
    );
    // News end the wait.
    let made = Instant::now();
    station.authority.revoke(&[4711]);
    station.ca.serve(station.authority.response());
    station.wait_for_sequence(11);
    assert!(made.elapsed() < SOON, "{:?}", made.elapsed());
}
