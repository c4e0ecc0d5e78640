//! `eic-login hosts`: the hosts that somebody may see, as whom to log in there, and by which ways.

use clap::Args;
use eic_protocol::os_user::OsUser;
use serde::Serialize;

use super::{paths, run_dir};
use crate::control::client::Agent;
use crate::control::message::{Ask, Reply};
use crate::credentials::Selection;
use crate::exit_code::{self, Failure};
use crate::host_cache::{CachedHost, HostCache, Listing, matches};
use crate::paths::Paths;
use crate::terminal;
use crate::ways_in::{told, ways_in};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Part of an id, name, address, Region or account; with `*` or `?` a pattern for one as a whole.
    filter: Vec<String>,
    /// As JSON.
    #[arg(long)]
    json: bool,
    /// What was listed last, without a network call.
    #[arg(long)]
    cached: bool,
}

/// Runs the command.
pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let paths = paths()?;
    let listings = if arguments.cached {
        HostCache::new(&paths.cache_dir).all()
    } else {
        vec![list(&paths)?]
    };
    let rows = rows(&listings, &arguments.filter);
    if arguments.json {
        terminal::print_json(&rows)?;
    } else {
        terminal::print(&table(&rows));
    }
    if listings.iter().any(|listing| listing.truncated) {
        terminal::note(
            "not all hosts are listed: there are more than fit, or an account does not answer the CA; name the host that you look for",
        );
    }
    Ok(())
}

/// Asks for a new listing, and reads it from the cache, or takes it where that cannot be written.
pub(super) fn list(paths: &Paths) -> Result<Listing, Failure> {
    let agent = Agent::new(&run_dir(paths)?)?;
    match agent.ask(Ask::Hosts(Selection::from_env()))?.1 {
        Reply::Hosts(listed) => {
            listed.notes.iter().for_each(|note| terminal::note(note));
            let kept = || HostCache::new(&paths.cache_dir).listing(&listed.source);
            listed.unkept.or_else(kept).ok_or_else(|| {
                Failure::new(
                    exit_code::FAILURE,
                    "the listing is not in the cache: try again",
                )
            })
        }
        Reply::Failed(failure) => Err(failure),
        _ => Err(Failure::new(
            exit_code::FAILURE,
            "the resident agent gave an unexpected answer",
        )),
    }
}

/// A host as it is shown.
#[derive(Debug, Serialize)]
struct Row {
    id: String,
    name: Option<String>,
    account: String,
    region: String,
    addresses: Vec<String>,
    users: Vec<String>,
    state: Option<String>,
    ways_in: Vec<&'static str>,
    #[serde(skip)]
    ways_told: String,
}

fn rows(listings: &[Listing], filters: &[String]) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    for listing in listings {
        let meant = |host: &&CachedHost| filters.iter().all(|filter| matches(filter, &host.view));
        let fresh = listing.hosts.iter().filter(meant);
        rows.extend(fresh.map(|host| row(host, listing.by_ca)));
    }
    // One host in two listings of the cache.
    let mut seen = std::collections::BTreeSet::new();
    rows.retain(|row| seen.insert(row.id.clone()));
    rows
}

fn row(host: &CachedHost, by_ca: bool) -> Row {
    let view = &host.view;
    let ways = ways_in(view, by_ca);
    Row {
        id: view.id.to_string(),
        name: view.name.clone(),
        account: view.account.to_string(),
        region: view.region.to_string(),
        addresses: view.addresses.iter().map(ToString::to_string).collect(),
        users: view.users.iter().map(OsUser::to_string).collect(),
        state: host.state.clone(),
        ways_in: ways.iter().map(|way| way.as_str()).collect(),
        ways_told: told(&ways),
    }
}

fn table(rows: &[Row]) -> String {
    if rows.is_empty() {
        return "There is no such host that you may see.\n".to_owned();
    }
    let or_dash = |text: Option<&String>| text.cloned().unwrap_or_else(|| "-".to_owned());
    let cells = rows.iter().map(|row| {
        let users = (!row.users.is_empty()).then(|| row.users.join(","));
        vec![
            row.id.clone(),
            or_dash(row.name.as_ref()),
            or_dash(row.addresses.first()),
            or_dash(users.as_ref()),
            or_dash(row.state.as_ref()),
            row.region.clone(),
            row.ways_told.clone(),
        ]
    });
    terminal::table(
        &[
            "INSTANCE", "NAME", "ADDRESS", "USERS", "STATE", "REGION", "WAYS IN",
        ],
        &cells.collect::<Vec<_>>(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host_cache::tests::view;

    fn listing() -> Listing {
        let hosts = [
            ("i-00000001", Some("web\u{1b}[2J")),
            ("i-00000002", Some("db-1")),
            ("i-00000003", None),
        ];
        let host = |(id, name)| CachedHost {
            view: view(id, name),
            state: Some("running".to_owned()),
        };
        Listing {
            at: 1,
            by_ca: false,
            truncated: false,
            hosts: hosts.map(host).into(),
        }
    }

    #[test]
    fn names_with_escapes_are_shown_escaped() {
        // H-15
        let shown = table(&rows(&[listing()], &[]));
        assert!(!shown.contains('\u{1b}'), "{shown}");
        assert!(shown.contains("i-00000001") && shown.contains("pushed-key"));
    }

    #[test]
    fn every_filter_must_fit_and_a_host_is_shown_once() {
        let shown = |filters: &[&str]| -> Vec<String> {
            let filters: Vec<String> = filters.iter().map(|f| (*f).to_owned()).collect();
            let rows = rows(&[listing(), listing()], &filters);
            rows.into_iter().map(|row| row.id).collect()
        };
        assert_eq!(shown(&["db", "eu-west"]), ["i-00000002"]);
        assert_eq!(shown(&["db", "us-east"]), Vec::<String>::new());
        assert_eq!(shown(&[]).len(), 3);
        assert!(table(&rows(&[listing()], &["none".to_owned()])).contains("no such host"));
    }
}
