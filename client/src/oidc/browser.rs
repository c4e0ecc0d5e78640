//! Whether there is a browser here, and how it is shown a page: by the system's own opener, never through a shell.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

/// Whether a person before this terminal can be expected to see a browser of this machine.
#[must_use]
pub fn is_available(variable: impl Fn(&str) -> Option<OsString>) -> bool {
    let set = |name: &str| variable(name).is_some_and(|value| !value.is_empty());
    if set("BROWSER") {
        return true;
    }
    let screen = cfg!(target_os = "macos") || set("DISPLAY") || set("WAYLAND_DISPLAY");
    screen && !set("SSH_CONNECTION")
}

/// Starts the browser with a page. It outlives this program, and a Ctrl-C in the terminal is not for it.
///
/// # Errors
/// The system's, where the program cannot be started.
pub fn show(url: &str, variable: impl Fn(&str) -> Option<OsString>) -> io::Result<()> {
    let browser = variable("BROWSER").and_then(|text| text.into_string().ok());
    let words = words(browser.as_deref().unwrap_or_default(), url);
    let (program, arguments) = words.split_first().ok_or(io::ErrorKind::NotFound)?;
    Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .map(|_| ())
}

/// `BROWSER` is a list of commands, parted by `:`, in which `%s` is the page; the first counts.
fn words(browser: &str, url: &str) -> Vec<String> {
    let first = browser.split(':').next().unwrap_or_default();
    let words: Vec<&str> = first.split_whitespace().collect();
    match words.as_slice() {
        [] if cfg!(target_os = "macos") => vec!["open".to_owned(), url.to_owned()],
        [] => vec!["xdg-open".to_owned(), url.to_owned()],
        words if words.contains(&"%s") => {
            let filled = words
                .iter()
                .map(|word| if *word == "%s" { url } else { word });
            filled.map(str::to_owned).collect()
        }
        words => words
            .iter()
            .copied()
            .chain([url])
            .map(str::to_owned)
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn available(variables: &[(&str, &str)]) -> bool {
        is_available(|name| {
            let found = variables.iter().find(|(n, _)| *n == name);
            found.map(|(_, value)| value.into())
        })
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn no_browser_opens_on_a_machine_that_somebody_only_came_to_by_ssh() {
        assert!(!available(&[]));
        assert!(!available(&[("DISPLAY", "")]));
        assert!(!available(&[("DISPLAY", ":10"), ("SSH_CONNECTION", "x")]));
        assert!(available(&[("DISPLAY", ":0")]));
        assert!(available(&[("WAYLAND_DISPLAY", "wayland-0")]));
        assert!(available(&[("BROWSER", "w3m"), ("SSH_CONNECTION", "x")]));
    }

    #[test]
    fn an_address_is_one_word_whatever_is_in_it() {
        // H-03
        let url = "https://issuer.example/a?b=c&d=$(id);%20'\"";
        assert_eq!(words("firefox", url), ["firefox", url]);
        assert_eq!(words("open -u %s -n:other", url), ["open", "-u", url, "-n"]);
        assert_eq!(words("", url).last().unwrap(), url);
    }
}
