//! Every limit of an endpoint, refused before anything is opened.

use super::*;

fn endpoint(id: &str) -> Endpoint {
    Endpoint {
        id: id.parse().unwrap(),
        state: "create-complete".to_owned(),
        vpc_id: "vpc-1".to_owned(),
        subnet_id: "subnet-9".to_owned(),
        dns_name: Some("a.example.com".to_owned()),
        fips_dns_name: Some("fips.example.com".to_owned()),
        dualstack_dns_name: None,
        dualstack_fips_dns_name: None,
        address_type: None,
        preserve_client_ip: false,
        groups: vec!["sg-eice".to_owned()],
    }
}

fn instance() -> Instance {
    Instance {
        state: "running".to_owned(),
        vpc_id: Some("vpc-1".to_owned()),
        subnet_id: Some("subnet-1".to_owned()),
        private_ip: "10.0.0.5".parse().ok(),
        ipv6: "fd00::5".parse().ok(),
        groups: vec!["sg-web".to_owned()],
    }
}

fn chosen(endpoints: &[Endpoint], instance: &Instance) -> Result<String, Obstacle> {
    choose(endpoints, Some(instance), None).map(|endpoint| endpoint.id.to_string())
}

#[test]
fn endpoints_that_are_missing_unfinished_or_elsewhere_are_refused() {
    assert!(matches!(
        chosen(&[], &instance()),
        Err(Obstacle::None { .. })
    ));
    let told = chosen(&[], &instance()).unwrap_err().to_string();
    assert!(told.contains("in vpc-1"), "{told}");
    for state in [
        "create-in-progress",
        "create-failed",
        "delete-in-progress",
        "",
    ] {
        let unfinished = Endpoint {
            state: state.to_owned(),
            ..endpoint("eice-00000001")
        };
        assert!(
            matches!(
                chosen(&[unfinished], &instance()),
                Err(Obstacle::NotReady { .. })
            ),
            "{state}"
        );
    }
    let preserving = Endpoint {
        vpc_id: "vpc-2".to_owned(),
        preserve_client_ip: true,
        ..endpoint("eice-00000001")
    };
    assert!(matches!(
        chosen(&[preserving], &instance()),
        Err(Obstacle::OtherVpc { .. })
    ));
    let stopped = Instance {
        state: "stopped".to_owned(),
        ..instance()
    };
    assert_eq!(
        chosen(&[endpoint("eice-00000001")], &stopped),
        Err(Obstacle::NotRunning("stopped".to_owned()))
    );
}

#[test]
fn a_connected_vpc_is_only_noted() {
    let other = Endpoint {
        vpc_id: "vpc-2".to_owned(),
        ..endpoint("eice-00000001")
    };
    assert!(chosen(std::slice::from_ref(&other), &instance()).is_ok());
    assert!(notes(&other, Some(&instance())).concat().contains("vpc-2"));
    assert!(notes(&endpoint("eice-00000001"), Some(&instance())).is_empty());
}

#[test]
fn the_endpoint_of_the_instances_subnet_is_preferred() {
    let near = Endpoint {
        subnet_id: "subnet-1".to_owned(),
        ..endpoint("eice-00000002")
    };
    let endpoints = [endpoint("eice-00000001"), near];
    assert_eq!(chosen(&endpoints, &instance()).unwrap(), "eice-00000002");
    assert_eq!(
        chosen(&endpoints[..1], &instance()).unwrap(),
        "eice-00000001"
    );
}

#[test]
fn names_that_the_endpoint_lacks_are_refused() {
    let dual = Names {
        fips: false,
        dualstack: true,
    };
    let told = name(&endpoint("eice-00000001"), dual)
        .unwrap_err()
        .to_string();
    assert!(told.contains("no dual-stack name"), "{told}");
    let fips = Names {
        fips: true,
        dualstack: false,
    };
    assert_eq!(
        name(&endpoint("eice-00000001"), fips).unwrap().as_str(),
        "fips.example.com"
    );
    let hostile = Endpoint {
        dns_name: Some("a.b/..\r\nX: y".to_owned()),
        ..endpoint("eice-00000001")
    };
    assert!(name(&hostile, Names::default()).is_err());
}

#[test]
fn address_families_that_the_endpoint_does_not_speak_are_refused() {
    let only_v6 = Instance {
        private_ip: None,
        ..instance()
    };
    let bare = Instance {
        ipv6: None,
        ..only_v6.clone()
    };
    let of_kind = |kind: &str| Endpoint {
        address_type: Some(kind.to_owned()),
        ..endpoint("eice-00000001")
    };
    assert!(matches!(
        address(&of_kind("ipv4"), &only_v6),
        Err(Obstacle::Family { .. })
    ));
    assert!(matches!(
        address(&endpoint("eice-00000001"), &only_v6),
        Err(Obstacle::Family { .. })
    ));
    assert_eq!(
        address(&of_kind("dualstack"), &bare),
        Err(Obstacle::NoAddress)
    );
    assert_eq!(
        address(&of_kind("ipv6"), &instance()).unwrap().to_string(),
        "fd00::5"
    );
    assert_eq!(
        address(&of_kind("dualstack"), &instance())
            .unwrap()
            .to_string(),
        "10.0.0.5"
    );
    assert_eq!(
        address(&of_kind("dualstack"), &only_v6)
            .unwrap()
            .to_string(),
        "fd00::5"
    );
}

#[test]
fn a_missing_security_group_rule_is_named() {
    let rule = |port: u16, groups: &[&str], has_addresses: bool| Rule {
        first_port: port,
        last_port: port,
        groups: groups.iter().map(|g| (*g).to_owned()).collect(),
        has_addresses,
    };
    let admitted =
        |rules: &[Rule], endpoint: &Endpoint| admission(rules, &instance(), endpoint, 22);
    let open = endpoint("eice-00000001");
    for refused in [
        vec![],
        vec![rule(443, &["sg-eice"], true)],
        vec![rule(22, &["sg-other"], false)],
    ] {
        let told = admitted(&refused, &open).unwrap_err().to_string();
        assert!(
            told.contains("sg-web") && told.contains("sg-eice") && told.contains("port 22"),
            "{told}"
        );
    }
    let preserving = Endpoint {
        preserve_client_ip: true,
        ..open.clone()
    };
    let told = admitted(&[rule(22, &["sg-eice"], false)], &preserving)
        .unwrap_err()
        .to_string();
    assert!(told.contains("your own address"), "{told}");
    assert_eq!(admitted(&[rule(22, &["sg-eice"], false)], &open), Ok(None));
    assert_eq!(admitted(&[rule(22, &[], true)], &preserving), Ok(None));
}
