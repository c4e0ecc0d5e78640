//! One host or none, and what the tags of EC2 and the words of the CA mean.

use std::collections::BTreeMap;

use eic_aws::ec2::Instance;

use super::ec2::view_of;
use super::*;

fn instance(id: &str, tags: &[(&str, &str)]) -> Instance {
    Instance {
        id: id.parse().unwrap(),
        account: "123456789012".parse().unwrap(),
        region: "eu-west-1".parse().unwrap(),
        state: "running".to_owned(),
        availability_zone: None,
        vpc_id: None,
        subnet_id: None,
        image_id: Some("ami-1".to_owned()),
        private_dns: None,
        public_dns: None,
        private_ip: None,
        public_ip: None,
        ipv6: Vec::new(),
        instance_profile: None,
        tags: tags
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
    }
}

fn view(id: &str) -> InstanceView {
    view_of(instance(id, &[]), &Config::default(), &HashMap::new())
}

fn target(source: Source, enrolment: Enrolment, mode: InstanceConnectMode) -> Target {
    Target {
        view: InstanceView {
            enrolment,
            instance_connect: mode,
            ..view("i-01234567")
        },
        answer: 5,
        source,
        with: Selection::from_variables([]),
        notes: Vec::new(),
    }
}

#[test]
fn no_host_several_hosts_and_another_host_are_refused() {
    let id: HostName = "i-01234567".parse().unwrap();
    let name: HostName = "web-1".parse().unwrap();
    let asked = meant_id(&id, &Config::default());
    assert!(matches!(
        only_one(&id, &asked, vec![]),
        Err(LoginError::UnknownHost(_))
    ));
    assert!(matches!(
        only_one(&id, &asked, vec![view("i-76543210")]),
        Err(LoginError::OtherInstance { .. })
    ));
    let two = only_one(&name, &None, vec![view("i-76543210"), view("i-01234567")]);
    let two = two.unwrap_err().to_string();
    assert!(
        two.contains("2 instances") && two.contains("i-01234567 (without a name, eu-west-1,"),
        "{two}"
    );
    assert!(only_one(&name, &None, vec![view("i-76543210"), view("i-76543210")]).is_ok());
}

#[test]
fn a_tag_can_switch_pushing_off_and_a_slip_in_it_does() {
    for (word, mode) in [
        ("on", InstanceConnectMode::On),
        ("break-glass", InstanceConnectMode::BreakGlass),
        ("off", InstanceConnectMode::Off),
        ("Off", InstanceConnectMode::Off),
        ("", InstanceConnectMode::Off),
    ] {
        let tagged = instance("i-01234567", &[("eic:instance-connect", word)]);
        let view = view_of(tagged, &Config::default(), &HashMap::new());
        assert_eq!(view.instance_connect, mode, "{word:?}");
    }
}

#[test]
fn accounts_come_from_the_tag_then_from_the_table_of_images() {
    let images = BTreeMap::from([("ami-1".to_owned(), "admin".parse().unwrap())]);
    let config = Config {
        images,
        ..Config::default()
    };
    let published = HashMap::from([("ami-1".to_owned(), "ubuntu".parse().unwrap())]);
    let of_image = view_of(instance("i-01234567", &[]), &Config::default(), &published);
    assert_eq!(of_image.users[0].as_str(), "ubuntu");
    let users = |tags: &[(&str, &str)]| -> Vec<String> {
        let view = view_of(instance("i-01234567", tags), &config, &published);
        view.users.iter().map(ToString::to_string).collect()
    };
    assert_eq!(users(&[]), ["admin"]);
    assert_eq!(
        users(&[("eic:user", "ubuntu, deploy")]),
        ["ubuntu", "deploy"]
    );
    assert_eq!(users(&[("eic:user", "$(id)")]), ["admin"]);
}

#[test]
fn the_cas_word_counts_wherever_the_host_was_found() {
    // H-18
    use Enrolment::{Enrolled, Legacy, Unknown};
    use InstanceConnectMode::{Off, On};
    let said = |enrolment, mode| InstanceView {
        enrolment,
        instance_connect: mode,
        ..view("i-01234567")
    };
    for (source, known, answer, word, expected) in [
        // EC2 knows nothing of enrolment: the CA's word counts, older or newer.
        (
            Source::Ec2,
            (Unknown, On),
            9,
            (Enrolled, On),
            (Enrolled, On),
        ),
        (
            Source::Ec2,
            (Unknown, On),
            1,
            (Enrolled, On),
            (Enrolled, On),
        ),
        (Source::Ec2, (Unknown, On), 9, (Legacy, Off), (Legacy, Off)),
        (Source::Ec2, (Unknown, Off), 9, (Legacy, On), (Legacy, Off)),
        (Source::Ec2, (Enrolled, On), 9, (Legacy, On), (Enrolled, On)),
        // Of two words of the CA the newer one, as long as it is not about a push that the other forbids.
        (Source::Ca, (Legacy, On), 1, (Unknown, On), (Legacy, On)),
        (Source::Ca, (Unknown, On), 9, (Legacy, On), (Legacy, On)),
        (
            Source::Ca,
            (Legacy, On),
            1,
            (Enrolled, Off),
            (Enrolled, Off),
        ),
    ] {
        let found = target(source, known.0, known.1).with_answer(answer, said(word.0, word.1));
        let got = (found.view.enrolment, found.view.instance_connect);
        assert_eq!(got, expected, "{source:?} {known:?} {answer} {word:?}");
        assert_eq!(found.source, Source::Ca);
    }
    let other = view("i-76543210");
    let same = target(Source::Ec2, Unknown, On).with_answer(9, other);
    assert_eq!((same.source, same.view.enrolment), (Source::Ec2, Unknown));
}
