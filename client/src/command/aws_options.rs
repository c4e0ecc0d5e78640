//! What the commands that stand in for AWS's own have in common: the profile and Region of their options, for
//! themselves and for the ssh that they start.

use std::process::Command;

use eic_protocol::aws_region::AwsRegion;

use crate::credentials::Selection;

/// The environment's selection with `--profile` and `--region` over it.
pub(super) fn selection(profile: Option<&str>, region: Option<AwsRegion>) -> Selection {
    overridden(Selection::from_env(), profile, region)
}

fn overridden(selection: Selection, profile: Option<&str>, region: Option<AwsRegion>) -> Selection {
    let selection = match profile {
        Some(profile) => selection.with_profile(profile),
        None => selection,
    };
    match region {
        Some(region) => selection.with_region(region),
        None => selection,
    }
}

/// Gives a command the selection in place of what the environment says, so that its ProxyCommand means the same.
pub(super) fn apply(selection: &Selection, command: &mut Command) {
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    replace(selection, names, command);
}

/// With another profile a token of the environment must not come back by ssh's ProxyCommand (H-14).
fn replace(selection: &Selection, names: impl Iterator<Item = String>, command: &mut Command) {
    for name in names.filter(|name| Selection::names_identity(name)) {
        command.env_remove(name);
    }
    let identity = |(name, _): &(&str, &str)| Selection::names_identity(name);
    command.envs(selection.variables().filter(identity));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ssh_gets_no_token_of_the_environment_beside_another_profile() {
        // H-14
        let names = ["EIC_ID_TOKEN", "AWS_ACCESS_KEY_ID", "PATH"];
        let given = names.map(|name| (name.to_owned(), "x".to_owned()));
        let other = overridden(Selection::from_variables(given), Some("dev"), None);
        let mut ssh = Command::new("ssh");
        replace(&other, names.map(str::to_owned).into_iter(), &mut ssh);
        let text = |value: Option<&std::ffi::OsStr>| value.map(|v| v.to_str().unwrap().to_owned());
        let changed: Vec<_> = ssh
            .get_envs()
            .map(|(n, v)| (n.to_str().unwrap().to_owned(), text(v)))
            .collect();
        let expected = [
            ("AWS_ACCESS_KEY_ID", None),
            ("AWS_PROFILE", Some("dev")),
            ("EIC_ID_TOKEN", None),
        ];
        let expected = expected.map(|(n, v)| (n.to_owned(), v.map(str::to_owned)));
        assert_eq!(changed, expected);
    }

    #[test]
    fn a_profile_never_keeps_keys_of_the_environment_and_a_region_is_named_once() {
        // H-14
        let given = [
            ("AWS_ACCESS_KEY_ID", "AKIA1"),
            ("AWS_DEFAULT_REGION", "us-east-1"),
            ("PATH", "/bin"),
        ];
        let given = || Selection::from_variables(given.map(|(n, v)| (n.to_owned(), v.to_owned())));
        let region: AwsRegion = "eu-west-1".parse().unwrap();
        let both = overridden(given(), Some("prod"), Some(region));
        let names: Vec<_> = both.variables().collect();
        assert_eq!(
            names,
            [
                ("AWS_PROFILE", "prod"),
                ("AWS_REGION", "eu-west-1"),
                ("PATH", "/bin")
            ]
        );
        let region_only = overridden(given(), None, Some(region));
        assert!(
            region_only
                .variables()
                .any(|(n, _)| n == "AWS_ACCESS_KEY_ID")
        );
        assert!(
            !region_only
                .variables()
                .any(|(n, _)| n == "AWS_DEFAULT_REGION")
        );
    }
}
