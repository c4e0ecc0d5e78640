//! `eic-login inventory`: the hosts as Ansible asks for them (`--list`, `--host NAME`; "Developing dynamic inventory",
//! Ansible documentation). Ansible then logs in through plain ssh, with our settings.

use std::collections::{BTreeMap, BTreeSet};

use clap::Args;
use serde_json::{Map, Value, json};

use super::hosts::list;
use super::paths;
use crate::config::Config;
use crate::exit_code::Failure;
use crate::host_cache::{CachedHost, HostCache};
use crate::host_name::HostName;
use crate::ssh_config::host_users;
use crate::terminal;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// All hosts with their variables and groups.
    #[arg(long, required_unless_present = "host", conflicts_with = "host")]
    list: bool,
    /// The variables of one host.
    #[arg(long, value_name = "NAME")]
    host: Option<String>,
    /// What was listed last, without a network call.
    #[arg(long)]
    cached: bool,
}

/// Runs the command.
pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let paths = paths()?;
    let config = Config::in_force(&paths)?;
    let hosts = if arguments.cached {
        let all = HostCache::new(&paths.cache_dir).all();
        all.into_iter().flat_map(|listing| listing.hosts).collect()
    } else {
        list(&paths)?.hosts
    };
    let (inventory, left_out) = inventory(&hosts, &config);
    let answer = match &arguments.host {
        None => {
            left_out.iter().for_each(|note| terminal::note(note));
            inventory
        }
        Some(name) => inventory
            .pointer("/_meta/hostvars")
            .and_then(|variables| variables.get(name))
            .cloned()
            .unwrap_or_else(|| json!({})),
    };
    terminal::print_json(&answer)
}

/// Hosts by id: a `Name` tag may be on several, and is anybody's text. Groups by name, Region, account and enrolment.
/// The second value are lines for stderr: groups that are left out.
fn inventory(hosts: &[CachedHost], config: &Config) -> (Value, Vec<String>) {
    let mut variables = Map::new();
    let mut groups: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut named = Named::default();
    let running = hosts
        .iter()
        .filter(|host| host.state.as_deref().is_none_or(|state| state == "running"));
    for host in running {
        let id = host.view.id.to_string();
        variables.insert(id.clone(), host_variables(host, config));
        for group in groups_of(host).into_iter().chain(named.group_of(host)) {
            groups.entry(group).or_default().insert(id.clone());
        }
    }
    let left_out = named.ambiguous();
    groups.retain(|group, _| !left_out.contains_key(group));
    let mut inventory = Map::new();
    inventory.insert("_meta".to_owned(), json!({"hostvars": variables}));
    let names: Vec<&String> = groups.keys().collect();
    inventory.insert("all".to_owned(), json!({"children": names}));
    for (group, ids) in &groups {
        inventory.insert(group.clone(), json!({"hosts": ids}));
    }
    (Value::Object(inventory), left_out.into_values().collect())
}

/// What feeds each group of a name. Whoever may tag an instance in one account must not get it into a play that is
/// meant for another one's hosts, by the same name or by one that becomes the same group.
#[derive(Default)]
struct Named(BTreeMap<String, BTreeSet<(String, String)>>);

impl Named {
    fn group_of(&mut self, host: &CachedHost) -> Option<String> {
        let name = host.view.name.as_ref()?;
        let group = format!("name_{}", plain(name));
        let feeds = self.0.entry(group.clone()).or_default();
        feeds.insert((name.clone(), host.view.account.to_string()));
        Some(group)
    }

    /// Groups of more than one name or account, each with what to say.
    fn ambiguous(self) -> BTreeMap<String, String> {
        let several = self.0.into_iter().filter(|(_, feeds)| feeds.len() > 1);
        let told = several.map(|(group, feeds)| {
            let shown = feeds.iter().take(3);
            let shown: Vec<String> = shown
                .map(|(name, account)| format!("`{name}` of {account}"))
                .collect();
            let note = format!(
                "the group {group} is left out, since several names or accounts are in it ({}): \
                 use ids, or groups of Region and account",
                shown.join(", ")
            );
            (group, note)
        });
        told.collect()
    }
}

fn host_variables(host: &CachedHost, config: &Config) -> Value {
    let view = &host.view;
    let addresses: Vec<String> = view.addresses.iter().map(ToString::to_string).collect();
    // Ansible evaluates `{{ … }}` in variables: a tag that could hold such text is left out.
    let name = view
        .name
        .as_ref()
        .filter(|name| name.parse::<HostName>().is_ok());
    let mut variables = json!({
        "ansible_host": view.id.as_str(),
        "eic_name": name,
        "eic_region": view.region.as_str(),
        "eic_account": view.account.to_string(),
        "eic_addresses": addresses,
    });
    if let (Some(user), Some(map)) = (host_users::user(view, config), variables.as_object_mut()) {
        map.insert("ansible_user".to_owned(), json!(user.as_str()));
    }
    variables
}

/// Names of groups: letters, digits and `_`, as Ansible takes them.
fn groups_of(host: &CachedHost) -> Vec<String> {
    let view = &host.view;
    let enrolment = serde_json::to_value(view.enrolment).unwrap_or_default();
    vec![
        format!("region_{}", plain(view.region.as_str())),
        format!("account_{}", view.account),
        format!(
            "enrolment_{}",
            plain(enrolment.as_str().unwrap_or("unknown"))
        ),
    ]
}

fn plain(text: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    text.chars().take(100).map(plain).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host_cache::tests::view;

    fn host(id: &str, name: &str, state: &str) -> CachedHost {
        CachedHost {
            view: view(id, Some(name)),
            state: Some(state.to_owned()),
        }
    }

    #[test]
    fn a_name_tag_becomes_no_template_and_no_other_group() {
        // H-03
        let hosts = [host("i-00000001", "{{ lookup('pipe','id') }}", "running")];
        let (inventory, _) = inventory(&hosts, &Config::default());
        let groups: Vec<&String> = inventory.as_object().unwrap().keys().collect();
        assert!(
            groups.iter().all(|group| {
                let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
                group.bytes().all(plain)
            }),
            "{groups:?}"
        );
        let variables = &inventory["_meta"]["hostvars"]["i-00000001"];
        assert_eq!(variables["ansible_host"], "i-00000001");
        assert!(!inventory.to_string().contains("{{"), "{inventory}");
    }

    #[test]
    fn a_group_that_several_names_or_accounts_feed_is_left_out_and_said() {
        // H-03
        let mut elsewhere = host("i-00000004", "api", "running");
        elsewhere.view.account = "999999999999".parse().unwrap();
        let hosts = [
            host("i-00000001", "web-1", "running"),
            host("i-00000002", "web_1", "running"),
            host("i-00000003", "api", "running"),
            elsewhere,
            host("i-00000005", "db", "running"),
            host("i-00000006", "db", "running"),
        ];
        let (inventory, left_out) = inventory(&hosts, &Config::default());
        for group in ["name_web_1", "name_api"] {
            assert!(inventory.get(group).is_none(), "{inventory}");
            let children = inventory["all"]["children"].as_array().unwrap();
            assert!(!children.contains(&json!(group)), "{inventory}");
            assert!(
                left_out.iter().any(|note| note.contains(group)),
                "{left_out:?}"
            );
        }
        assert_eq!(
            inventory["name_db"]["hosts"],
            json!(["i-00000005", "i-00000006"])
        );
        assert!(inventory["_meta"]["hostvars"].get("i-00000002").is_some());
    }

    #[test]
    fn running_hosts_are_in_their_groups_with_their_account() {
        let config: Config =
            toml::from_str("[[host]]\nmatch = \"web-1\"\nuser = \"deploy\"\n").unwrap();
        let hosts = [
            host("i-00000001", "web-1", "running"),
            host("i-00000002", "web-2", "stopped"),
        ];
        let (inventory, left_out) = inventory(&hosts, &config);
        assert!(left_out.is_empty(), "{left_out:?}");
        assert_eq!(
            inventory["region_eu_west_1"]["hosts"],
            json!(["i-00000001"])
        );
        assert_eq!(inventory["name_web_1"]["hosts"], json!(["i-00000001"]));
        let variables = &inventory["_meta"]["hostvars"];
        assert_eq!(variables["i-00000001"]["ansible_user"], "deploy");
        assert!(variables.get("i-00000002").is_none());
    }
}
