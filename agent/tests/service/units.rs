//! The systemd units of the service and its helper, as systemd itself reads them.

use crate::station::Station;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../infra/systemd");

#[test]
fn systemd_accepts_the_units() {
    let Some(station) = Station::new("") else {
        return;
    };
    if !std::path::Path::new("/usr/bin/systemd-analyze").exists() {
        eprintln!("skipped: no systemd-analyze");
        return;
    }
    let names = [
        "eic-agent.service",
        "eic-agent-helper.socket",
        "eic-agent-helper@.service",
        "eic-agent-logins.socket",
        "eic-agent-logins.service",
        "eic-agent-harvest.service",
    ];
    for name in names {
        let unit = std::fs::read(format!("{FOLDER}/{name}")).unwrap();
        station
            .host
            .write(&format!("etc/systemd/system/{name}"), unit);
    }
    let mut command = station.host.command("systemd-analyze");
    command.args(["verify", "--man=no"]);
    command.args(names.map(|name| format!("/etc/systemd/system/{name}")));
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let ours: Vec<&str> = said
        .lines()
        .filter(|line| line.contains("eic-agent"))
        .collect();
    assert!(ours.is_empty(), "{said}");
}

#[test]
fn the_units_keep_privileges_apart() {
    let unit = |name: &str| std::fs::read_to_string(format!("{FOLDER}/{name}")).unwrap();
    for name in ["eic-agent.service", "eic-agent-harvest.service"] {
        let service = unit(name);
        for line in [
            "User=eic",
            "CapabilityBoundingSet=",
            "NoNewPrivileges=yes",
            "ProtectSystem=strict",
        ] {
            assert!(service.lines().any(|l| l == line), "{name}: {line}");
        }
    }
    let helper = unit("eic-agent-helper@.service");
    for line in [
        "PrivateNetwork=yes",
        "CapabilityBoundingSet=CAP_DAC_READ_SEARCH",
        "ReadWritePaths=/var/lib/eic",
    ] {
        assert!(helper.lines().any(|l| l == line), "{line}");
    }
    assert!(!helper.contains("User="));
    let logins = unit("eic-agent-logins.service");
    for line in [
        "CapabilityBoundingSet=CAP_SETUID CAP_SETGID CAP_KILL",
        "NoNewPrivileges=yes",
        "ProtectSystem=strict",
    ] {
        assert!(logins.lines().any(|l| l == line), "{line}");
    }
}
