//! Principals: kinds never mix, paths are not guessed, patterns have no open ends.

use super::*;

fn caller(arn: &str, user_id: &str) -> Caller {
    Caller::aws(arn.parse().unwrap(), user_id, None, false)
}

fn dev_session() -> Caller {
    caller(
        "arn:aws:sts::111122223333:assumed-role/Dev/alice",
        "AROADEVELOPERROLE0001:alice",
    )
}

fn covers(principal: &str, caller: &Caller) -> Truth {
    Principal::parse_aws(principal).unwrap().covers(caller)
}

#[test]
fn what_names_no_principal_is_refused() {
    for bad in [
        "",
        "**",
        "arn:aws:iam::*:role/Dev",
        "arn:aws:iam::111122223333:role/*",
        "arn:aws:iam::111122223333:role/",
        "arn:aws:iam::111122223333:group/Dev",
        "arn:aws:iam::11112222333:root",
        "arn:aws:iam:us-east-1:111122223333:root",
        "arn:aws:s3:::bucket",
        "11112222333",
        "aida0123456789abcdef",
        "Dev",
        "arn:aws:iam::111122223333:user/",
        "arn:aws:sts::111122223333:assumed-role/Dev",
        "arn:zz:iam::111122223333:root",
    ] {
        assert!(Principal::parse_aws(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn kinds_of_principals_never_match_each_other() {
    //
    let callers = [
        (
            "user",
            caller(
                "arn:aws:iam::111122223333:user/Admin",
                "AIDA0123456789ABCDEF0",
            ),
        ),
        (
            "session",
            caller(
                "arn:aws:sts::111122223333:assumed-role/Admin/alice",
                "AROA0123456789ABCDEF0:alice",
            ),
        ),
        (
            "federated",
            caller(
                "arn:aws:sts::111122223333:federated-user/Admin",
                "111122223333:Admin",
            ),
        ),
        (
            "root",
            caller("arn:aws:iam::111122223333:root", "111122223333"),
        ),
        (
            "user named role",
            caller(
                "arn:aws:iam::111122223333:user/role/Admin",
                "AIDA0123456789ABCDEF1",
            ),
        ),
    ];
    for (principal, only) in [
        ("arn:aws:iam::111122223333:user/Admin", "user"),
        ("arn:aws:iam::111122223333:role/Admin", "session"),
        (
            "arn:aws:sts::111122223333:assumed-role/Admin/alice",
            "session",
        ),
        (
            "arn:aws:sts::111122223333:federated-user/Admin",
            "federated",
        ),
        (
            "arn:aws:iam::111122223333:user/role/Admin",
            "user named role",
        ),
    ] {
        for (kind, caller) in &callers {
            assert_eq!(
                covers(principal, caller),
                (*kind == only).into(),
                "{principal} {kind}"
            );
        }
    }
}

#[test]
fn root_and_federated_users_are_not_let_in_by_a_broad_principal() {
    //
    let root = caller("arn:aws:iam::111122223333:root", "111122223333");
    let federated = caller(
        "arn:aws:sts::111122223333:federated-user/Admin",
        "111122223333:Admin",
    );
    for broad in ["*", "111122223333", "arn:aws:iam::111122223333:root"] {
        let rule = PrincipalRule::Any(vec![Principal::parse_aws(broad).unwrap()]);
        assert_eq!(rule.covers_for_allow(&root, &[]), Truth::No, "{broad}");
        assert_eq!(
            rule.covers_for_allow(&federated, &[NamedOnly::Root]),
            Truth::No,
            "{broad}"
        );
        assert_eq!(
            rule.covers_for_allow(&root, &[NamedOnly::Root]),
            Truth::Yes,
            "{broad}"
        );
        assert_eq!(
            rule.covers(&root),
            Truth::Yes,
            "a Deny covers them: {broad}"
        );
        assert_eq!(
            rule.covers_for_allow(&dev_session(), &[]),
            Truth::Yes,
            "{broad}"
        );
    }
}

#[test]
fn a_role_with_a_path_is_unknown_until_the_path_was_looked_up() {
    // whoever may create roles elsewhere in the account can take the name, not the path.
    let arn = "arn:aws:sts::111122223333:assumed-role/AWSReservedSSO_Admin_0123456789abcdef/alice";
    let policy = "arn:aws:iam::111122223333:role/aws-reserved/sso.amazonaws.com/AWSReservedSSO_Admin_0123456789abcdef";
    let with = |path| {
        Caller::aws(
            arn.parse().unwrap(),
            "AROA0123456789ABCDEF0:alice",
            path,
            true,
        )
    };
    assert_eq!(covers(policy, &with(None)), Truth::Unknown);
    assert_eq!(covers(policy, &with(Some("/"))), Truth::No);
    assert_eq!(
        covers(policy, &with(Some("/aws-reserved/sso.amazonaws.com/"))),
        Truth::Yes
    );
    assert_eq!(
        covers(
            "arn:aws:iam::111122223333:role/aws-reserved/Other",
            &with(None)
        ),
        Truth::No
    );
}

#[test]
fn a_recreated_role_is_not_the_one_that_was_pinned() {
    //
    let again = caller(
        "arn:aws:sts::111122223333:assumed-role/Dev/alice",
        "AROADEVELOPERROLE0002:alice",
    );
    assert_eq!(covers("AROADEVELOPERROLE0001", &again), Truth::No);
    assert_eq!(covers("AROADEVELOPERROLE0001", &dev_session()), Truth::Yes);
}

#[test]
fn not_principal_excepts_only_who_is_named_with_role_and_account() {
    let denied = |principals: &[&str]| {
        let list = principals
            .iter()
            .map(|p| Principal::parse_aws(p).unwrap())
            .collect();
        PrincipalRule::Not(list).covers(&dev_session())
    };
    let (session, role, account) = (
        "arn:aws:sts::111122223333:assumed-role/Dev/alice",
        "arn:aws:iam::111122223333:role/Dev",
        "arn:aws:iam::111122223333:root",
    );
    assert_eq!(denied(&[account]), Truth::Yes);
    assert_eq!(denied(&[role]), Truth::Yes);
    assert_eq!(denied(&[role, account]), Truth::Yes);
    assert_eq!(denied(&[session, account]), Truth::Yes);
    assert_eq!(denied(&[session, role, account]), Truth::No);
    assert_eq!(denied(&[session, role, "999999999999"]), Truth::Yes);
}

#[test]
fn attachments_with_open_accounts_or_kinds_are_refused() {
    for bad in [
        "",
        "*",
        "arn:aws:iam::*:role/Dev",
        "arn:aws:iam::1111222233??:role/Dev",
        "arn:aws:iam::111122223333:*",
        "arn:aws:iam::111122223333:r*",
        "arn:*:iam::111122223333:role/Dev",
        "arn:aws:iam::111122223333:role/",
        "arn:aws:iam::111122223333:role",
        "arn:aws:iam::111122223333:ro?t",
        "arn:aws:iam::111122223333:group/x",
        "arn:aws:sts::111122223333:role/Dev",
        "arn:aws:iam::111122223333:assumed-role/Dev/a",
    ] {
        assert!(AttachedTo::aws(bad, Vec::new()).is_err(), "{bad:?}");
    }
}

#[test]
fn attachments_cover_the_kind_they_name() {
    let answer = |pattern: &str| {
        AttachedTo::aws(pattern, Vec::new())
            .unwrap()
            .covers(&dev_session())
    };
    assert_eq!(answer("arn:aws:iam::111122223333:role/*"), Truth::Yes);
    assert_eq!(answer("arn:aws:iam::111122223333:role/Dev"), Truth::Yes);
    assert_eq!(answer("arn:aws:iam::111122223333:role/D*"), Truth::Unknown);
    assert_eq!(answer("arn:aws:iam::111122223333:user/*"), Truth::No);
    assert_eq!(
        answer("arn:aws:sts::111122223333:assumed-role/Dev/*"),
        Truth::Yes
    );
    assert_eq!(answer("111122223333"), Truth::Yes);
    assert_eq!(answer("999999999999"), Truth::No);
    assert_eq!(answer("AROADEVELOPERROLE0001"), Truth::Yes);
}

#[test]
fn oidc_attachments_need_accounts_and_closed_subjects() {
    // B-19
    let accounts = || vec!["111122223333".parse().unwrap()];
    let issuer = "https://token.actions.githubusercontent.com";
    assert_eq!(
        AttachedTo::oidc(issuer, "repo:acme/app:*", Vec::new()).unwrap_err(),
        AttachmentError::NoAccounts
    );
    for open in ["repo:acme/app*", "*", "repo:acme*/app", "repo:acme/app:**"] {
        assert!(
            AttachedTo::oidc(issuer, open, accounts()).is_err(),
            "{open}"
        );
    }
    for bad in [
        "http://issuer.example",
        "issuer.example",
        "https://*.example",
    ] {
        assert!(AttachedTo::oidc(bad, "a", accounts()).is_err(), "{bad}");
    }
    let attached = AttachedTo::oidc(issuer, "repo:acme/app:*", accounts()).unwrap();
    let subject = |subject| attached.covers(&Caller::oidc(issuer, subject, Default::default()));
    assert_eq!(subject("repo:acme/app:ref:refs/heads/main"), Truth::Yes);
    assert_eq!(subject("repo:acme/app-evil:ref:refs/heads/main"), Truth::No);
    let elsewhere = Caller::oidc(
        "https://evil.example",
        "repo:acme/app:x",
        Default::default(),
    );
    assert_eq!(attached.covers(&elsewhere), Truth::No);
}

#[test]
fn an_identity_policy_reaches_its_own_account_and_the_listed_ones() {
    // C-19
    let own: AccountId = "111122223333".parse().unwrap();
    let other: AccountId = "444455556666".parse().unwrap();
    let alone = AttachedTo::aws("arn:aws:iam::111122223333:role/Dev", Vec::new()).unwrap();
    assert!(alone.reaches(&dev_session(), &[&own]));
    assert!(!alone.reaches(&dev_session(), &[&other]));
    assert!(
        !alone.reaches(&dev_session(), &[&own, &other]),
        "a fleet across accounts"
    );
    let listed =
        AttachedTo::aws("arn:aws:iam::111122223333:role/Dev", vec![other.clone()]).unwrap();
    assert!(listed.reaches(&dev_session(), &[&own, &other]));
}

#[test]
fn a_federated_principal_is_an_issuer_or_nothing() {
    let read = |text| Principal::parse_federated(text);
    let issuer = read("token.actions.githubusercontent.com")
        .unwrap()
        .unwrap();
    let caller = Caller::oidc(
        "https://token.actions.githubusercontent.com",
        "x",
        Default::default(),
    );
    assert_eq!(issuer.covers(&caller), Truth::Yes);
    assert_eq!(
        issuer.covers(&Caller::oidc(
            "https://evil.example",
            "x",
            Default::default()
        )),
        Truth::No
    );
    assert_eq!(issuer.covers(&dev_session()), Truth::No);
    assert_eq!(
        read("arn:aws:iam::111122223333:saml-provider/Corp"),
        Ok(None)
    );
    let provider = "arn:aws:iam::111122223333:oidc-provider/token.actions.githubusercontent.com";
    assert_eq!(read(provider), Ok(Some(issuer)));
    for text in [
        "*",
        "?",
        "",
        "idp.example?",
        "http://idp.example",
        "https://https://a.b",
        "arn:aws:s3:::x",
    ] {
        assert!(read(text).is_err(), "{text:?}");
    }
}
