//! `eic-login completion`: what a shell sources to complete commands, and hosts from the cache. No network call is
//! ever made for a tabulator.

use std::ffi::OsString;

use clap::{Args, CommandFactory as _, ValueEnum};

use super::{Cli, paths};
use crate::exit_code::Failure;
use crate::host_cache::HostCache;
use crate::host_name::HostName;
use crate::terminal;

/// Commands whose next word is a host, beside the ones that clap does not know.
const WITH_HOST: [&str; 6] = ["ssh", "hosts", "explain", "doctor", "push", "tunnel"];
/// Commands that are parsed by hand and yet are for people.
const BY_HAND: [&str; 1] = ["ssh"];
/// Most hosts that are offered: a terminal shows no more.
const MAX_OFFERED: usize = 2_000;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The shell.
    shell: Shell,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

/// Runs the command.
pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    terminal::print(&script(arguments.shell));
    Ok(())
}

/// `complete-host PREFIX`, which the scripts call: one host a line; `user@` in front stays.
pub(super) fn hosts(args: &[OsString]) -> Result<(), Failure> {
    let typed = args
        .first()
        .and_then(|word| word.to_str())
        .unwrap_or_default();
    let cache = HostCache::new(&paths()?.cache_dir);
    let all = cache.all();
    let views = all.iter().flat_map(|listing| &listing.hosts);
    let names = views.flat_map(|host| {
        let name = host.view.name.clone();
        name.into_iter().chain([host.view.id.to_string()])
    });
    terminal::print(&offered(typed, names));
    Ok(())
}

fn offered(typed: &str, names: impl Iterator<Item = String>) -> String {
    let (user, prefix) = match typed.rsplit_once('@') {
        Some((user, prefix)) => (format!("{user}@"), prefix),
        None => (String::new(), typed),
    };
    // A Name tag is anybody's text: only what could be typed after `ssh` reaches a shell.
    let mut fitting: Vec<String> = names
        .filter(|name| name.starts_with(prefix) && name.parse::<HostName>().is_ok())
        .collect();
    fitting.sort();
    fitting.dedup();
    let lines = fitting.iter().take(MAX_OFFERED);
    lines.map(|name| format!("{user}{name}\n")).collect()
}

fn script(shell: Shell) -> String {
    let cli = Cli::command();
    let mut commands: Vec<&str> = cli.get_subcommands().map(clap::Command::get_name).collect();
    commands.extend(BY_HAND);
    commands.sort_unstable();
    let commands = commands.join(" ");
    let with_host = WITH_HOST.join("|");
    match shell {
        Shell::Bash => format!(
            "# eic-login completion for bash: source it, or put it into /etc/bash_completion.d\n\
             _eic_login() {{\n    local word=\"${{COMP_WORDS[COMP_CWORD]}}\"\n    COMPREPLY=()\n    \
             if [ \"$COMP_CWORD\" -eq 1 ]; then\n        COMPREPLY=($(compgen -W \"{commands}\" -- \"$word\"))\n        return\n    fi\n    \
             case \"${{COMP_WORDS[1]}}\" in\n        {with_host})\n            local name\n            \
             while IFS= read -r name; do COMPREPLY+=(\"$name\"); done < <(eic-login complete-host \"$word\" 2>/dev/null)\n            ;;\n    esac\n}}\n\
             complete -F _eic_login eic-login\n"
        ),
        Shell::Zsh => format!(
            "#compdef eic-login\n# eic-login completion for zsh: put it as _eic-login into a folder of $fpath\n\
             _eic_login() {{\n    if (( CURRENT == 2 )); then\n        compadd -- {commands}\n        return\n    fi\n    \
             case \"$words[2]\" in\n        {with_host})\n            \
             compadd -- ${{(f)\"$(eic-login complete-host \"$PREFIX\" 2>/dev/null)\"}}\n            ;;\n    esac\n}}\n\
             compdef _eic_login eic-login\n"
        ),
        Shell::Fish => {
            let with_host = WITH_HOST.join(" ");
            format!(
                "# eic-login completion for fish: put it into ~/.config/fish/completions/eic-login.fish\n\
                 complete -c eic-login -f -n __fish_use_subcommand -a '{commands}'\n\
                 complete -c eic-login -f -n '__fish_seen_subcommand_from {with_host}' \
                 -a '(eic-login complete-host (commandline -ct) 2>/dev/null)'\n"
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn names_that_a_shell_could_take_for_something_else_are_not_offered() {
        // H-03
        let names = [
            "web-1",
            "$(id)",
            "web-2\nweb-3",
            "web 4",
            "web-`id`",
            "db-1",
        ];
        let all = |typed: &str| offered(typed, names.iter().map(|n| (*n).to_owned()));
        assert_eq!(all("web"), "web-1\n");
        assert_eq!(all("ubuntu@w"), "ubuntu@web-1\n");
        assert_eq!(all(""), "db-1\nweb-1\n");
    }

    #[test]
    fn the_scripts_name_every_command_and_bash_completes_with_them() {
        let cli = Cli::command();
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let script = script(shell);
            for command in cli.get_subcommands() {
                assert!(script.contains(command.get_name()), "{shell:?}");
            }
        }
        // A stand-in for the program answers as the cache would.
        let test = format!(
            "eic-login() {{ [ \"$1\" = complete-host ] && printf 'web-1\\nweb-2\\n'; }}\n{}\n\
             COMP_WORDS=(eic-login hos); COMP_CWORD=1; _eic_login; echo \"${{COMPREPLY[@]}}\"\n\
             COMP_WORDS=(eic-login ssh we); COMP_CWORD=2; _eic_login; echo \"${{COMPREPLY[@]}}\"\n",
            script(Shell::Bash)
        );
        let output = Command::new("bash").arg("-c").arg(test).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(text, "hosts\nweb-1 web-2\n", "{:?}", output.stderr);
    }
}
