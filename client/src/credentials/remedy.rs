//! The one thing to run when credentials are missing or have expired, found from the profile's own settings.
//! Reads the AWS configuration file for its key names only; values other than names are not used.

use eic_protocol::text::printable;

use super::selection::Selection;
use crate::files;

/// Largest AWS configuration file that is looked at. Bytes.
const MAX_FILE: u64 = 1024 * 1024;

/// `run …`, for the end of a message.
pub(super) fn remedy(selection: &Selection) -> String {
    let bytes = selection
        .config_file()
        .and_then(|file| files::read_capped(&file, MAX_FILE).ok().flatten());
    let text = bytes
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .unwrap_or_default();
    let from_environment = selection.label().starts_with("environment ");
    let advice = advise(selection.profile(), from_environment, &text);
    if selection.is_job_without_token() && !selection.names_credentials() {
        return format!("give the job `permissions: id-token: write`, or {advice}");
    }
    advice
}

fn advise(profile: Option<&str>, from_environment: bool, config: &str) -> String {
    if from_environment {
        return "renew AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN, or unset them".to_owned();
    }
    let name = profile.unwrap_or("default");
    let base = source(name, config);
    // The sign-in is that of the profile at the end of the chain.
    let option = match profile {
        None if base == name => String::new(),
        _ => format!(" --profile {}", printable(&base)),
    };
    match keys(&base, config) {
        Some(keys)
            if keys
                .iter()
                .any(|k| matches!(k.as_str(), "sso_session" | "sso_start_url")) =>
        {
            format!("run `aws sso login{option}`")
        }
        Some(keys) if keys.iter().any(|k| k == "credential_process") => {
            format!(
                "see why the credential_process of profile `{}` fails",
                printable(&base)
            )
        }
        Some(_) => format!("renew the credentials of profile `{}`", printable(&base)),
        None if profile.is_some() => {
            format!("run `aws configure sso{option}`, or name another AWS_PROFILE")
        }
        None => "run `aws configure sso`, or set AWS_PROFILE".to_owned(),
    }
}

/// Follows `source_profile`, at most 8 times: the login belongs to the profile at its end.
fn source(name: &str, config: &str) -> String {
    let mut name = name.to_owned();
    for _ in 0..8 {
        match value(&name, "source_profile", config) {
            Some(next) if next != name => name = next,
            _ => break,
        }
    }
    name
}

fn keys(profile: &str, config: &str) -> Option<Vec<String>> {
    let mut lines = section(profile, config)?.peekable();
    lines.peek()?;
    Some(
        lines
            .filter_map(|line| line.split_once('='))
            .map(|(key, _)| key.trim().to_ascii_lowercase())
            .collect(),
    )
}

fn value(profile: &str, key: &str, config: &str) -> Option<String> {
    let mut pairs = section(profile, config)?.filter_map(|line| line.split_once('='));
    pairs
        .find(|(k, _)| k.trim() == key)
        .map(|(_, v)| v.trim().to_owned())
}

/// The lines of `[profile NAME]` (or `[default]`).
fn section<'a>(profile: &'a str, config: &'a str) -> Option<impl Iterator<Item = &'a str>> {
    let is_header = |line: &str| line.starts_with('[');
    let named = move |line: &str| {
        let inner = line
            .trim_start_matches('[')
            .split(']')
            .next()
            .unwrap_or_default()
            .trim();
        inner
            .strip_prefix("profile ")
            .map_or(inner == profile && profile == "default", |name| {
                name.trim() == profile
            })
    };
    let mut lines = config.lines().map(str::trim);
    lines.find(|line| is_header(line) && named(line))?;
    Some(
        lines
            .take_while(move |line| !is_header(line))
            .filter(|line| !line.starts_with(['#', ';']) && !line.is_empty()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = "[default]\nregion = eu-west-1\n[profile dev]\nsso_session = corp\n# x\n[profile prod]\nsource_profile = dev\n\
                          role_arn = x\n[profile proc]\ncredential_process = /bin/x\n[profile loop]\nsource_profile = loop\n[profile lost]\nsource_profile = gone\n[sso-session corp]\nsso_start_url = x\n";

    #[test]
    fn each_kind_of_profile_has_its_own_remedy() {
        for (profile, told) in [
            (Some("dev"), "run `aws sso login --profile dev`"),
            (Some("prod"), "run `aws sso login --profile dev`"),
            (Some("lost"), "run `aws configure sso --profile gone`"),
            (Some("proc"), "credential_process of profile `proc`"),
            (Some("loop"), "renew the credentials of profile `loop`"),
            (Some("none"), "run `aws configure sso --profile none`"),
            (None, "renew the credentials of profile `default`"),
        ] {
            let advice = advise(profile, false, CONFIG);
            assert!(advice.contains(told), "{profile:?}: {advice}");
        }
        assert!(advise(None, false, "").contains("set AWS_PROFILE"));
        let default = CONFIG.replace("[default]", "[default]\nsource_profile = dev");
        let told = advise(None, false, &default);
        assert_eq!(told, "run `aws sso login --profile dev`");
        let own = CONFIG.replace("[default]", "[default]\nsso_session = corp");
        assert_eq!(advise(None, false, &own), "run `aws sso login`");
        assert!(advise(Some("dev"), true, CONFIG).contains("AWS_SESSION_TOKEN"));
    }

    #[test]
    fn a_job_without_a_token_is_told_the_permission() {
        let of = |variables: &[(&str, &str)]| {
            let owned = |(n, v): &(&str, &str)| ((*n).to_owned(), (*v).to_owned());
            remedy(&Selection::from_variables(variables.iter().map(owned)))
        };
        let job = ("GITHUB_ACTIONS", "true");
        assert!(of(&[job]).contains("id-token: write"));
        let url = ("ACTIONS_ID_TOKEN_REQUEST_URL", "https://x");
        assert!(!of(&[job, url]).contains("id-token"));
        assert!(!of(&[]).contains("id-token"));
    }

    #[test]
    fn profile_names_with_escapes_are_made_printable() {
        // H-15
        assert!(!advise(Some("x\u{1b}[2J"), false, "").contains('\u{1b}'));
    }
}
