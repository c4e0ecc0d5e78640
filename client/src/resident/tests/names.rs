//! Names across places, accounts of hosts, and the list of hosts.

use eic_protocol::api::discovery::SessionMode;
use eic_protocol::api::instance::Enrolment;

use super::stub::{INSTANCE, OTHER_INSTANCE, World};
use crate::config::{Config, HostProfile, Place};
use crate::control::message::{Ask, ConnectAsk, Reply};
use crate::exit_code;
use crate::files;
use crate::host_cache::HostCache;
use crate::transport::bastion::Bastion;
use crate::transport::{Via, Way};

/// Two places: each profile of the stand-in has an access key of its own.
fn two_places(world: &World, ca: Option<&str>) {
    world.configure(ca, Vec::new());
    let place = |name: &str, profile: &str, account: &str| Place {
        name: name.to_owned(),
        profile: Some(profile.to_owned()),
        regions: Vec::new(),
        account: Some(account.parse().unwrap()),
        optional: false,
    };
    let config = Config {
        places: vec![
            place("prod", "PROD", "123456789012"),
            place("dev", "DEV", "210987654321"),
        ],
        ..Config::load(&world.paths).unwrap()
    };
    let text = config.to_toml().unwrap();
    files::write_atomic(&world.paths.config_file(), text.as_bytes(), 0o600).unwrap();
}

fn without_profile(world: &World, host: &str) -> ConnectAsk {
    let mut login = world.login("alice", host);
    let variables = login
        .selection
        .variables()
        .map(|(n, v)| (n.to_owned(), v.to_owned()));
    let rest: Vec<_> = variables
        .filter(|(name, _)| name != "AWS_PROFILE")
        .collect();
    login.selection = crate::credentials::Selection::from_variables(rest);
    login
}

/// What each profile's EC2 shows.
fn of_profiles(world: &World, prod: &[&str], dev: &[&str]) {
    let ids = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect();
    world.state().by_key = [
        ("AKIA0000000000PROD".to_owned(), ids(prod)),
        ("AKIA0000000000DEV".to_owned(), ids(dev)),
    ]
    .into();
}

#[tokio::test]
async fn a_name_of_two_places_lists_the_candidates_and_a_place_in_front_decides() {
    let world = World::new().await;
    two_places(&world, None);
    of_profiles(&world, &[INSTANCE], &[OTHER_INSTANCE]);
    let both = world.connect(without_profile(&world, "web-1")).await;
    let both = both.unwrap_err();
    assert!(
        both.code == exit_code::USAGE
            && both.message.contains(INSTANCE)
            && both.message.contains(OTHER_INSTANCE),
        "{both:?}"
    );
    // Nothing is called so as a whole.
    world.state().by_filter = [("web-1.prod".to_owned(), Vec::new())].into();
    world
        .connect(without_profile(&world, "dev/web-1"))
        .await
        .unwrap();
    world
        .connect(without_profile(&world, "web-1.prod"))
        .await
        .unwrap();
    assert!(world.socket("alice@dev/web-1").exists());
    let state = world.state();
    let pushes = [
        format!("alice@{OTHER_INSTANCE}"),
        format!("alice@{INSTANCE}"),
    ];
    assert_eq!(state.pushes, pushes);
    // H-14: each with the credentials of its own place.
    let keys: Vec<&str> = state.pushed_with.iter().map(String::as_str).collect();
    assert_eq!(keys, ["AKIA0000000000DEV", "AKIA0000000000PROD"]);
}

#[tokio::test]
async fn a_profile_of_the_environment_narrows_the_places_to_its_own() {
    let world = World::new().await;
    two_places(&world, None);
    of_profiles(&world, &[INSTANCE], &[OTHER_INSTANCE]);
    let login = ConnectAsk {
        selection: world.selection("DEV"),
        ..world.login("alice", "web-1")
    };
    world.connect(login).await.unwrap();
    assert_eq!(world.state().pushes, [format!("alice@{OTHER_INSTANCE}")]);
}

#[tokio::test]
async fn a_name_is_not_used_while_a_place_that_may_hold_another_one_does_not_answer() {
    let world = World::new().await;
    two_places(&world, None);
    of_profiles(&world, &[INSTANCE], &[]);
    let text = std::fs::read_to_string(world.paths.config_file()).unwrap();
    let text = text.replace("\"DEV\"", "\"EXPIRED\"");
    files::write_atomic(&world.paths.config_file(), text.as_bytes(), 0o600).unwrap();
    let refused = world.connect(without_profile(&world, "web-1")).await;
    let refused = refused.unwrap_err();
    assert!(
        refused.message.contains("dev could not be searched")
            && refused.message.contains("PLACE/web-1")
            && refused.message.contains("expired"),
        "{refused:?}"
    );
    assert_eq!(refused.code, exit_code::CREDENTIALS);
    let nowhere = world.connect(without_profile(&world, "dev/web-1")).await;
    assert_eq!(nowhere.unwrap_err().code, exit_code::CREDENTIALS);
    assert!(world.state().pushes.is_empty());
    // Said where it is, or which one it is.
    for host in ["prod/web-1", "123456789012/web-1", INSTANCE] {
        world.connect(without_profile(&world, host)).await.unwrap();
    }
}

#[tokio::test]
async fn a_name_is_used_without_a_place_that_need_not_answer_and_that_is_said() {
    let world = World::new().await;
    two_places(&world, None);
    of_profiles(&world, &[INSTANCE], &[]);
    let text = std::fs::read_to_string(world.paths.config_file()).unwrap();
    let text = text.replace("\"DEV\"", "\"EXPIRED\"\noptional = true");
    files::write_atomic(&world.paths.config_file(), text.as_bytes(), 0o600).unwrap();
    let notes = world
        .connect(without_profile(&world, "web-1"))
        .await
        .unwrap();
    assert!(
        notes
            .iter()
            .any(|note| note.contains("dev was not searched")),
        "{notes:?}"
    );
    // Where nothing is found elsewhere, it is not said that there is no such host.
    of_profiles(&world, &[], &[]);
    let failure = world.connect(without_profile(&world, "web-2")).await;
    assert_eq!(failure.unwrap_err().code, exit_code::CREDENTIALS);
}

#[tokio::test]
async fn a_legacy_host_that_the_ca_names_is_pushed_to_with_its_own_accounts_profile() {
    let world = World::new().await;
    let url = world.aws.clone();
    two_places(&world, Some(&url));
    world.state().enrolment = Enrolment::Legacy;
    world.connect(world.login("alice", "web-1")).await.unwrap();
    assert_eq!(world.state().pushed_with, ["AKIA0000000000PROD"]);
    let unknown = world.connect(world.login("alice", "stage/web-1")).await;
    assert!(unknown.unwrap_err().message.contains("known: prod, dev"));
}

#[tokio::test]
async fn the_laptops_user_is_never_tried_where_another_account_is_known_or_none() {
    let world = World::new().await;
    let login = || ConnectAsk {
        default_user: true,
        ..world.login("alice", "web-1")
    };
    // Never seen enrolled, so that the same host may be opened without the CA.
    world.state().enrolment = Enrolment::Unknown;
    // The CA names accounts: hers is not among them.
    world.state().users = vec!["ubuntu".to_owned(), "deploy".to_owned()];
    let refused = world.connect(login()).await.unwrap_err();
    assert!(
        refused.message.contains("type `ssh ubuntu@web-1`") && refused.code == exit_code::USAGE,
        "{refused:?}"
    );
    // Without a CA nobody else decides, and nothing is known.
    world.configure(None, Vec::new());
    let refused = world.connect(login()).await.unwrap_err();
    assert!(refused.message.contains("ssh USER@web-1"), "{refused:?}");
    assert!(world.state().pushes.is_empty());
    // Named by hand, or the CA's own to decide.
    world.connect(world.login("alice", "web-1")).await.unwrap();
    let url = world.aws.clone();
    world.configure(Some(&url), Vec::new());
    world.state().users = Vec::new();
    world
        .connect(ConnectAsk {
            host: INSTANCE.parse().unwrap(),
            ..login()
        })
        .await
        .unwrap();
}

#[tokio::test]
async fn hosts_are_listed_kept_and_given_their_account() {
    let world = World::new().await;
    files::private_dir(&world.paths.ssh_dir).unwrap();
    std::fs::write(world.paths.ssh_dir.join("config"), "Include eic.config\n").unwrap();
    std::fs::write(world.paths.ssh_dir.join("eic.config"), "").unwrap();
    world.state().users = vec!["ubuntu".to_owned()];
    let (_, Reply::Hosts(listed)) = world.ask(Ask::Hosts(world.selection("MAIN"))).await else {
        panic!()
    };
    let cache = HostCache::new(&world.paths.cache_dir);
    let listing = cache.listing(&listed.source).unwrap();
    assert!(listing.by_ca && listing.hosts.len() == 1);
    let users = std::fs::read_to_string(world.paths.ssh_dir.join("eic.hosts")).unwrap();
    assert!(
        users.contains(&format!("Host {INSTANCE}\n    User ubuntu\n")),
        "{users}"
    );
    // The CA away: EC2 is asked, and that is said.
    world.state().absent = true;
    let (_, Reply::Hosts(listed)) = world.ask(Ask::Hosts(world.selection("MAIN"))).await else {
        panic!()
    };
    assert!(
        listed.notes[0].contains("EC2 was asked instead"),
        "{listed:?}"
    );
}

#[tokio::test]
async fn a_listing_goes_through_all_pages_of_the_ca() {
    for mode in [SessionMode::On, SessionMode::Off] {
        let world = World::new().await;
        let ids: Vec<String> = (1..=5).map(|n| format!("i-{n:08x}")).collect();
        {
            let mut state = world.state();
            (state.instances, state.page) = (ids.clone(), 2);
            // One request for each grant: each page needs a session of its own.
            state.sessions_mode = mode;
        }
        let (_, Reply::Hosts(listed)) = world.ask(Ask::Hosts(world.selection("MAIN"))).await else {
            panic!()
        };
        let cache = HostCache::new(&world.paths.cache_dir);
        let listing = cache.listing(&listed.source).unwrap();
        let hosts = listing.hosts.iter().map(|host| host.view.id.to_string());
        assert_eq!(hosts.collect::<Vec<_>>(), ids);
        assert!(!listing.truncated);
    }
}

#[tokio::test]
async fn a_name_tag_with_capitals_is_found_by_what_ssh_makes_of_it() {
    // ssh asks for `web-one` where `Web-One` was typed; EC2 and the CA compare exactly.
    let world = World::new().await;
    world.configure(None, Vec::new());
    world.tag("Name", "Web-One");
    world.state().by_filter = [("web-one".to_owned(), Vec::new())].into();
    let unknown = world.connect(world.login("alice", "web-one")).await;
    assert_eq!(unknown.unwrap_err().code, exit_code::DENIED);
    let (_, Reply::Hosts(_)) = world.ask(Ask::Hosts(world.selection("MAIN"))).await else {
        panic!()
    };
    world
        .connect(world.login("alice", "web-one"))
        .await
        .unwrap();
    assert_eq!(world.state().pushes, [format!("alice@{INSTANCE}")]);
}

#[tokio::test]
async fn a_lower_case_namesake_does_not_take_over_a_name_with_capitals() {
    for by_ca in [true, false] {
        let world = World::new().await;
        world.tag("Name", "Web-One");
        world.state().name = "Web-One";
        if !by_ca {
            world.configure(None, Vec::new());
        }
        let (_, Reply::Hosts(_)) = world.ask(Ask::Hosts(world.selection("MAIN"))).await else {
            panic!()
        };
        // Somebody tags another instance as ssh spells the name.
        let spellings = || {
            [
                ("web-one".to_owned(), vec![OTHER_INSTANCE.to_owned()]),
                ("Web-One".to_owned(), vec![INSTANCE.to_owned()]),
            ]
        };
        world.state().by_name = spellings().into();
        world.state().by_filter = spellings().into();
        let refused = world.connect(world.login("alice", "web-one")).await;
        let refused = refused.unwrap_err();
        assert!(
            refused.code == exit_code::USAGE
                && refused.message.contains(INSTANCE)
                && refused.message.contains(OTHER_INSTANCE),
            "{refused:?}"
        );
    }
}

#[tokio::test]
async fn a_published_image_tells_the_account_and_no_permission_tells_none() {
    for (refused, told) in [
        (None, "type `ssh ubuntu@web-1`"),
        (
            Some(("DescribeImages", "UnauthorizedOperation")),
            "ssh USER@web-1",
        ),
    ] {
        let world = World::new().await;
        world.configure(None, Vec::new());
        world.state().image = Some("ubuntu/images/hvm-ssd-gp3/ubuntu-noble-24.04");
        world.state().aws_refuses = refused;
        let login = ConnectAsk {
            default_user: true,
            ..world.login("alice", "web-1")
        };
        let failure = world.connect(login).await.unwrap_err();
        assert!(failure.message.contains(told), "{failure:?}");
    }
}

/// A profile for every host whose bastion is `ops@BASTION`; names `web-*` are ours.
fn behind(world: &World, bastion: &str) {
    let profile = HostProfile {
        pattern: "*".to_owned(),
        via: Via::Only(Way::Bastion),
        bastion: Some(format!("ops@{bastion}").parse().unwrap()),
        ..HostProfile::default()
    };
    world.configure(None, vec![profile]);
    let config = Config {
        patterns: vec!["web-*".to_owned()],
        ..Config::load(&world.paths).unwrap()
    };
    let text = config.to_toml().unwrap();
    files::write_atomic(&world.paths.config_file(), text.as_bytes(), 0o600).unwrap();
}

/// The way and the bastion that a login is told.
async fn way(world: &World, host: &str) -> (Via, Option<Bastion>) {
    match world.ask(Ask::Connect(world.login("alice", host))).await.1 {
        Reply::Route { ways, .. } => (ways.via, ways.bastion),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_host_is_never_its_own_bastion_whatever_both_are_called() {
    let world = World::new().await;
    world.state().by_filter = [(OTHER_INSTANCE.to_owned(), vec![OTHER_INSTANCE.to_owned()])].into();
    for (bastion, host) in [
        (INSTANCE, INSTANCE),
        (INSTANCE, "web-1"),
        ("web-1", "web-1"),
        ("web-1", INSTANCE),
        ("web-1", "web-2"),
    ] {
        behind(&world, bastion);
        assert_eq!(way(&world, host).await, (Via::Auto, None), "{host}");
    }
    for bastion in [INSTANCE, "web-1", "jump.example.com"] {
        behind(&world, bastion);
        let (via, led) = way(&world, OTHER_INSTANCE).await;
        let led = led.map(|bastion| bastion.to_string());
        assert_eq!(via, Via::Only(Way::Bastion));
        assert_eq!(led, Some(format!("ops@{bastion}")));
    }
}
