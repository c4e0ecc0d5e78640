//! Tests of the parent module.

use std::path::Path;

use super::*;

fn parse(text: &str) -> Result<Config, String> {
    Config::parse(Path::new("/etc/eic/eic-ca.toml"), text).map_err(|e| e.to_string())
}

fn mistakes_after(from: &str, to: &str) -> String {
    assert!(sample::CONFIG.contains(from), "the sample has no {from}");
    parse(&sample::CONFIG.replacen(from, to, 1))
        .err()
        .unwrap_or_default()
}

/// Each change of the sample is told so: what is replaced, by what, and what the mistake says.
fn tells(changes: &[(&str, &str, &str)]) {
    for (from, to, expected) in changes {
        let told = mistakes_after(from, to);
        assert!(told.contains(expected), "{to}: {told}");
    }
}

#[test]
fn mistakes_of_the_server_and_its_sections_are_named_with_line_key_and_remedy() {
    tells(&[
        (
            "listen = \"127.0.0.1:8443\"",
            "listen = \"0.0.0.0:8443\"",
            ":5: `server.listen`: plain HTTP is served on loopback",
        ),
        (
            "listen =",
            "lisen =",
            "`server.lisen`: is not a key here; did you mean `listen`?",
        ),
        (
            "public_url = \"http://127.0.0.1:8443\"",
            "public_url = \"http://ca.example\"",
            "`server.public_url`: ",
        ),
        (
            "[store]",
            "[stor]",
            "`store`: is missing; add a table `[store]`",
        ),
        (
            "[\"policy.json\"]",
            "\"policy.json\"",
            "`policy.files`: expected an array of strings",
        ),
    ]);
}

#[test]
fn mistakes_about_keys_and_lifetimes_are_named() {
    tells(&[
        (
            "signer = \"local\"",
            "signer = \"lokal\"",
            "`lokal` is not one of \"local\", \"kms\"",
        ),
        (
            "signer = \"local\", file = \"keys/user-ca\"",
            "signer = \"kms\", arn = \"arn:aws:kms:eu-west-1:111122223333:alias/x\", region = \"eu-west-1\"",
            "not of an alias",
        ),
        (
            "signer = \"local\", file = \"keys/user-ca\"",
            "signer = \"kms\", arn = \"arn:aws:kms:eu-west-1:111122223333:key/x\", region = \"eu-west-2\"",
            "is not the Region of the ARN",
        ),
        (
            "[\"keys/grant-secret\"]",
            "[]",
            "`keys.grant_secrets`: name one file",
        ),
        (
            "ttl_seconds = 900",
            "ttl_seconds = 901",
            "`sessions.ttl_seconds`: must be between 30 and 900",
        ),
        (
            "default_ttl_seconds = 300",
            "default_ttl_seconds = 3601",
            "must be between 5 and 3600",
        ),
    ]);
}

#[test]
fn mistakes_about_aws_are_named() {
    tells(&[
        (
            "accounts = []",
            "accounts = [\"1\"]",
            "`aws_sts.accounts`: ",
        ),
        (
            "accounts = []",
            "accounts = []\nendpoint_override = \"https://sts.example\"",
            "stand-in on loopback only",
        ),
        (
            "accounts = []",
            "accounts = []\nendpoint_override = \"http://10.0.0.1\"",
            "plain http on loopback only",
        ),
        (
            "accounts = []",
            "accounts = [\"111122223333\"]\nrole_revocation = true",
            "[[inventory.ec2]]",
        ),
        (
            "mode = \"on\"",
            "mode = true",
            "expected a string in quotes",
        ),
        ("static = \"inventory.toml\"", "", "no inventory is named"),
    ]);
}

#[test]
fn all_mistakes_are_told_at_once() {
    let text = sample::CONFIG
        .replace("listen =", "lisen =")
        .replace("mode = \"on\"", "mode = \"maybe\"")
        .replace("[store]", "[stor]");
    let told = parse(&text).unwrap_err();
    assert!(
        told.starts_with("use the configuration; 5 mistakes to correct:"),
        "{told}"
    );
}

#[test]
fn a_role_of_another_account_is_no_inventory_role() {
    let told = mistakes_after(
        "[inventory.enrolment]",
        "[[inventory.ec2]]\naccount = \"111122223333\"\nregions = [\"eu-west-1\"]\nassume_role = \"arn:aws:iam::444455556666:role/x\"\n[inventory.enrolment]",
    );
    assert!(
        told.contains("must be a role of account 111122223333"),
        "{told}"
    );
}

#[test]
fn fleets_need_accounts_and_a_selector() {
    let told = parse(&format!("{}\n[fleets.web]\nkms_only = true\n[fleets.Bad_Name]\naccounts = [\"111122223333\"]\nids = [\"i-0123456789abcdef0\"]\n", sample::CONFIG)).unwrap_err();
    assert!(
        told.contains("`fleets.web.accounts`: name the accounts"),
        "{told}"
    );
    assert!(told.contains("`fleets.web.tags`: select hosts"), "{told}");
    assert!(told.contains("`fleets.Bad_Name`: "), "{told}");
}

#[test]
fn the_sample_is_taken_and_paths_count_from_its_folder() {
    let config = parse(sample::CONFIG).unwrap();
    assert_eq!(config.store, Path::new("/etc/eic/eic-ca.db"));
    assert_eq!(config.server.public_url.as_str(), "http://127.0.0.1:8443");
    assert_eq!(config.policy.files, [Path::new("/etc/eic/policy.json")]);
    assert!(config.fleets.is_empty() && config.nat.is_empty());
}

#[test]
fn every_section_is_read() {
    let text = sample::CONFIG
        .replace("# tls =", "tls =")
        .replace("# trusted", "trusted")
        .replace("# uid0", "uid0")
        + "\n[[source.nat]]\nrange = \"10.0.0.0/8\"\npublic = \"203.0.113.5\"\n[limits]\nbody_bytes = 32768\n\
           [fleets.web]\naccounts = [\"111122223333\"]\ntags = { role = \"web\" }\n";
    let config = parse(&text).unwrap();
    assert!(config.server.tls.is_some());
    assert_eq!(config.server.trusted_proxies.len(), 1);
    assert_eq!(config.policy.uid0_names.len(), 1);
    assert_eq!(
        (
            config.nat.len(),
            config.limits.body_bytes,
            config.fleets.len()
        ),
        (1, 32_768, 1)
    );
    assert_eq!(config.fleets[0].tags["role"], "web");
}

#[test]
fn a_proxy_that_cannot_be_used_is_a_mistake_without_its_password() {
    for (table, expected) in [
        ("proxy = \"socks5://u:canary@p:1\"", "`outbound.proxy`: "),
        ("proxy = \"http://u:canary@p:port\"", "`outbound.proxy`: "),
        ("proxy = 1", "expected a string"),
        ("no_proxy = [\"a\"]", "`outbound.proxy`: is missing"),
        (
            "proxy = \"http://u:canary@p:1\"\nno_proxy = [\"a b\"]",
            "`outbound.no_proxy`: `a b`",
        ),
        (
            "proxy = \"http://u:canary@p:1\"\nno = 1",
            "is not a key here",
        ),
    ] {
        let told = with(&format!("\n[outbound]\n{table}\n")).unwrap_err();
        assert!(told.contains(expected), "{table}: {told}");
        assert!(!told.contains("canary"), "{told}");
    }
}

#[test]
fn the_proxy_is_there_for_every_key_of_kms_and_none_without_it() {
    assert!(parse(sample::CONFIG).unwrap().proxy.is_none());
    let kms = "{ signer = \"kms\", arn = \"arn:aws:kms:eu-west-1:111122223333:key/x\", region = \"eu-west-1\" }";
    let text = sample::CONFIG
        .replacen(
            "\nuser_ca = {",
            &format!("\nspare_user_cas = [{kms}]\nuser_ca = {{"),
            1,
        )
        .replace(
            "host_ca = { signer = \"local\", file = \"keys/host-ca\" }",
            &format!("host_ca = {kms}"),
        );
    let config = parse(&format!(
        "{text}\n[outbound]\nproxy = \"http://u:canary@p:3128\"\n"
    ))
    .unwrap();
    let signers = [&config.keys.host_ca, &config.keys.spare_user_cas[0]];
    for signer in signers {
        let keys::SignerConfig::Kms(key) = signer else {
            panic!("{signer:?}")
        };
        assert_eq!(key.proxy, config.proxy);
    }
    assert_eq!(config.proxy.as_ref().unwrap().to_string(), "p:3128");
    assert!(!format!("{config:?}").contains("canary"));
}

#[test]
fn keys_in_memory_that_would_leave_a_gap_or_cut_certificates_are_a_mistake() {
    let with = |members: &str| {
        let keys = format!("[keys]\nendorsed = {{ {members} }}\n");
        mistakes_after("[keys]\n", &keys)
    };
    for (members, expected) in [
        ("overlap_seconds = 3600", "must be at least 43200"),
        ("sign_seconds = 172000", "at most 172800 seconds"),
        ("ahead = 1", "must be at least 2 "),
        ("ahead = 9", "must be between 1 and 8"),
        ("sign_seconds = 600", "must be at least 144 "),
        ("hours = 12", "is not a key here"),
    ] {
        let mistakes = with(members);
        assert!(mistakes.contains(expected), "{members}: {mistakes}");
    }
    for right in [
        "",
        "propagation_seconds = 0",
        "ahead = 3, propagation_seconds = 86400",
    ] {
        assert_eq!(with(right), "", "{right}");
    }
}

#[test]
fn keys_in_memory_are_off_and_have_defaults_that_hosts_take() {
    let parse = |text: &str| parse(text).unwrap().keys.endorsed;
    assert_eq!(parse(sample::CONFIG), None);
    let rules = parse(&sample::CONFIG.replacen("[keys]\n", "[keys]\nendorsed = {}\n", 1)).unwrap();
    // A day until hosts know it: two keys ahead.
    assert_eq!(
        (rules.sign, rules.overlap, rules.ahead),
        (43_200, 43_200, 2)
    );
    assert_eq!(rules.propagation, 86_400);
}

fn with(more: &str) -> Result<Config, String> {
    parse(&format!("{}{more}", sample::CONFIG))
}

#[test]
fn issuers_that_others_could_speak_for_are_mistakes() {
    // B-09, B-20, B-22, B-24
    let own = "[[oidc]]\nissuer = \"https://issuer.example\"\nalgorithms = [\"RS256\"]\n";
    let of = |issuer: &str| own.replace("https://issuer.example", issuer);
    for (more, expected) in [
        (of("issuer.example"), "is not an issuer"),
        (of("http://issuer.example"), "is not an issuer"),
        (own.replace("RS256", "HS256"), "`HS256` is not one of"),
        (own.replace("RS256", "none"), "`none` is not one of"),
        (own.replace("[\"RS256\"]", "[]"), "at least one algorithm"),
        (own.replace("algorithms = [\"RS256\"]\n", ""), "`oidc[0].algorithms`: is missing"),
        (format!("{own}{own}"), "is named twice"),
        (format!("{own}client_id = \"a b\"\n"), "without blanks"),
        (format!("{own}client_id = \"\"\n"), "without blanks"),
        (format!("{own}jwks_uri = \"http://10.0.0.1/keys\"\n"), "must be an `https://`"),
        (of("https://kubernetes.default.svc"), "pin this one's keys"),
        (of("https://x.tokens.sts.global.api.aws"), "belongs under [[aws_sts.web_identity]]"),
        (
            of("https://token.actions.githubusercontent.com"),
            "`require = { repository_owner_id",
        ),
        (format!("{own}[oidc.require]\nenv = []\n"), "at least one value"),
        (
            format!("{own}[[aws_sts.web_identity]]\naccount = \"111122223333\"\nissuer = \"https://issuer.example\"\nalgorithms = [\"ES384\"]\n"),
            "is named twice",
        ),
        (
            "[[policy.attachments]]\nissuer = \"https://issuer.example\"\nsubject = \"x\"\nfile = \"x.json\"\n".to_owned(),
            "no [[oidc]] has it",
        ),
        (
            format!("{own}[[policy.attachments]]\nissuer = \"https://issuer.example\"\nsubject = \"x\"\nprincipal = \"AROA0123456789ABCDEF\"\nfile = \"x.json\"\n"),
            "not both",
        ),
    ] {
        let told = with(&more).err().unwrap_or_default();
        assert!(told.contains(expected), "{more}: {told}");
    }
    assert!(with(own).is_ok(), "{:?}", with(own).err());
    let github = of("https://token.actions.githubusercontent.com");
    let config = with(&format!(
        "{github}[oidc.require]\nrepository_owner_id = [\"1\"]\n"
    ))
    .unwrap();
    assert_eq!(config.oidc[0].require["repository_owner_id"], ["1"]);
}

#[test]
fn the_configuration_of_the_policy_page_is_read() {
    let page = include_str!("../../../docs/policy.md");
    let blocks = page.split("```toml\n").skip(1);
    let blocks: Vec<_> = blocks
        .filter_map(|rest| rest.split("\n```").next())
        .collect();
    assert_eq!(blocks.len(), 3);
    for block in blocks {
        assert!(with(block).is_ok(), "{block}: {:?}", with(block).err());
    }
}
