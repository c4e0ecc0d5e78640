//! What sshd's configuration says already: commands that must go on working behind ours, settings that
//! would lose, and Match blocks that keep their own.

use std::path::PathBuf;

use super::InstallError;
use super::accounts::Account;
use super::drop_in::KEYWORDS;
use super::overrides::Override;
use crate::sshd::config_file::{Statement, words};

/// The program of AWS's host package; ours does its work natively, so it is not chained.
const OFFICIAL: &str = "eic_run_authorized_keys";

/// An AuthorizedKeysCommand of another program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OtherCommand {
    /// Program and arguments.
    pub(super) words: Vec<String>,
    /// Whom sshd runs it as.
    pub(super) user: Option<String>,
    /// Where it is set.
    pub(super) place: String,
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub(super) struct Existing {
    /// To be chained behind ours.
    pub(super) commands: Vec<OtherCommand>,
    /// The administrator's own RevokedKeys.
    pub(super) revoked_keys: Option<PathBuf>,
    /// Keyword and value that a Match block sets for AuthorizedKeysCommand and its user.
    pub(super) tolerated: Vec<(String, String)>,
    /// For the administrator.
    pub(super) remarks: Vec<String>,
}

impl Existing {
    /// Looks at statements that are not ours, and at options of sshd's units that will be taken out.
    ///
    /// # Errors
    /// Another CA or principals command would stop to count, and nobody said that it may (`replace`).
    pub(super) fn look(
        statements: &[Statement],
        taken_over: &[Override],
        replace: bool,
    ) -> Result<Self, InstallError> {
        if !replace {
            refuse_losers(statements, taken_over)?;
        }
        let mut existing = Self::default();
        existing.commands.extend(command_in_units(taken_over));
        existing.commands.extend(command_in_files(statements));
        existing.revoked_keys = first(statements, "revokedkeys").map(|s| PathBuf::from(&s.value));
        if let Some(path) = &existing.revoked_keys {
            existing.remarks.push(format!(
                "RevokedKeys stays {}: revocations that this agent receives do not reach sshd",
                path.display()
            ));
        }
        existing.note_match_blocks(statements);
        Ok(existing)
    }

    fn note_match_blocks(&mut self, statements: &[Statement]) {
        for statement in statements {
            let Some(condition) = &statement.condition else {
                continue;
            };
            let keyword = statement.keyword.as_str();
            if !KEYWORDS.contains(&keyword) {
                continue;
            }
            if keyword.starts_with("authorizedkeyscommand") {
                let value = words(&statement.value).join(" ");
                self.tolerated.push((keyword.to_owned(), value));
            }
            if loses_its_ca(statement, statements) {
                self.remarks.push(lost_ca(condition, statement));
            } else if !keyword.ends_with("user") {
                self.remarks.push(format!(
                    "`Match {condition}` keeps its own {keyword} ({}): this agent's does not count there",
                    statement.place()
                ));
            }
        }
    }
}

/// The Match blocks whose own CA opens nothing beside our principals command, in words: those that came after the
/// installation as well.
pub(super) fn lost_cas(statements: &[Statement]) -> impl Iterator<Item = String> {
    let losers = statements.iter().filter(|s| loses_its_ca(s, statements));
    losers.filter_map(|loser| Some(lost_ca(loser.condition.as_deref()?, loser)))
}

fn lost_ca(condition: &str, loser: &Statement) -> String {
    format!(
        "`Match {condition}` ({}) trusts a CA of its own, whose certificates open nothing there any more: this agent is asked for their names; an AuthorizedPrincipalsFile or AuthorizedPrincipalsCommand in that block brings them back",
        loser.place()
    )
}

/// The first unconditional statement of a keyword, unless it says `none`.
fn first<'a>(statements: &'a [Statement], keyword: &str) -> Option<&'a Statement> {
    let found = statements
        .iter()
        .find(|s| s.condition.is_none() && s.keyword == keyword)?;
    is_set(found).then_some(found)
}

/// Whether a Match block's own CA would open nothing beside our principals command: sshd then wants a name from a
/// principals file or command and no longer takes the user's own (auth2-pubkey.c, user_cert_trusted_ca).
/// What the block says counts before what is said for everybody.
fn loses_its_ca(statement: &Statement, statements: &[Statement]) -> bool {
    let Some(condition) = &statement.condition else {
        return false;
    };
    let in_block = |keyword: &str| {
        let mut of_block = statements
            .iter()
            .filter(|s| s.condition.as_ref() == Some(condition));
        of_block.find(|s| s.keyword == keyword)
    };
    let file = match in_block("authorizedprincipalsfile") {
        Some(own) => is_set(own),
        None => first(statements, "authorizedprincipalsfile").is_some(),
    };
    statement.keyword == "trustedusercakeys"
        && is_set(statement)
        && in_block("authorizedprincipalscommand").is_none()
        && !file
}

fn is_set(statement: &Statement) -> bool {
    !statement.value.eq_ignore_ascii_case("none")
}

fn refuse_losers(statements: &[Statement], taken_over: &[Override]) -> Result<(), InstallError> {
    if let Some(loser) = statements.iter().find(|s| loses_its_ca(s, statements)) {
        return Err(InstallError::WouldReplace {
            keyword: "trustedusercakeys",
            place: loser.place(),
        });
    }
    for keyword in ["trustedusercakeys", "authorizedprincipalscommand"] {
        let in_files = first(statements, keyword).map(Statement::place);
        let in_units = taken_over.iter().find(|o| o.keyword == keyword);
        let place = in_files.or(in_units.map(|o| o.source.display().to_string()));
        if let Some(place) = place {
            return Err(InstallError::WouldReplace { keyword, place });
        }
    }
    Ok(())
}

fn command_in_files(statements: &[Statement]) -> Option<OtherCommand> {
    let command = first(statements, "authorizedkeyscommand")?;
    let user = first(statements, "authorizedkeyscommanduser");
    other(
        &command.value,
        user.map(|s| s.value.clone()),
        command.place(),
    )
}

fn command_in_units(taken_over: &[Override]) -> Option<OtherCommand> {
    let named = |keyword: &str| taken_over.iter().find(|o| o.keyword == keyword);
    let command = named("authorizedkeyscommand")?;
    let user = named("authorizedkeyscommanduser").map(|o| o.value.clone());
    other(&command.value, user, command.source.display().to_string())
}

fn other(value: &str, user: Option<String>, place: String) -> Option<OtherCommand> {
    let words = words(value);
    let name = words.first()?.rsplit('/').next()?;
    // Our own, of an installation whose record was lost.
    let ours = name == "eic-agent" && words.get(1).is_some_and(|w| w == "authorized-keys");
    (name != OFFICIAL && !ours).then_some(OtherCommand { words, user, place })
}

impl OtherCommand {
    /// A remark where it will run as another account; nothing where it stays the same.
    ///
    /// # Errors
    /// It runs as root today: without root's rights it would fail, and root's are not given to chained commands.
    pub(super) fn account_remark(
        &self,
        ours: &str,
        accounts: &[Account],
    ) -> Result<Option<String>, InstallError> {
        let Some(user) = self.user.as_deref().filter(|user| *user != ours) else {
            return Ok(None);
        };
        let is_root = accounts.iter().any(|a| a.name == user && a.uid == 0);
        if is_root {
            return Err(InstallError::ChainedAsRoot {
                command: self.words.join(" "),
                place: self.place.clone(),
            });
        }
        Ok(Some(format!(
            "{} ({}) goes on as a chained command, as {ours} instead of {user}: check that {ours} may run it, or add `user = \"{user}\"` to it and enable eic-agent-logins.socket",
            self.words.join(" "),
            self.place
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statement(keyword: &str, value: &str, condition: Option<&str>) -> Statement {
        Statement {
            file: "/etc/ssh/sshd_config".into(),
            line: 7,
            keyword: keyword.to_owned(),
            value: value.to_owned(),
            condition: condition.map(str::to_owned),
        }
    }

    fn look(statements: &[Statement]) -> Result<Existing, InstallError> {
        Existing::look(statements, &[], false)
    }

    #[test]
    fn another_ca_is_not_replaced_silently() {
        for keyword in ["trustedusercakeys", "authorizedprincipalscommand"] {
            let statements = [statement(keyword, "/x", None)];
            let refused = look(&statements).unwrap_err();
            assert!(refused.to_string().contains("sshd_config:7"), "{refused}");
            assert!(Existing::look(&statements, &[], true).is_ok());
            assert!(look(&[statement(keyword, "none", None)]).is_ok());
        }
    }

    #[test]
    fn another_ca_of_a_match_block_is_not_closed_silently() {
        // J-09
        let block = Some("User git");
        let ca = statement("trustedusercakeys", "/etc/ssh/other", block);
        let file = |value, condition| statement("authorizedprincipalsfile", value, condition);
        for losing in [
            vec![ca.clone()],
            vec![ca.clone(), file("/p/%u", Some("User x"))],
            vec![ca.clone(), file("none", None)],
            vec![ca.clone(), file("none", block), file("/p/%u", None)],
            vec![
                ca.clone(),
                statement("authorizedprincipalscommand", "/x", Some("User x")),
            ],
        ] {
            let refused = look(&losing).unwrap_err().to_string();
            assert!(
                refused.contains("sshd_config:7 sets `trustedusercakeys`"),
                "{refused}"
            );
            let replaced = Existing::look(&losing, &[], true).unwrap();
            let told = replaced.remarks.concat();
            assert!(told.contains("open nothing there any more"), "{told}");
        }
        for unharmed in [
            vec![ca.clone(), file("/p/%u", block)],
            vec![ca.clone(), file("/p/%u", None)],
            vec![ca, statement("authorizedprincipalscommand", "/x", block)],
        ] {
            let remarks = look(&unharmed).unwrap().remarks;
            assert!(
                remarks[0].contains("keeps its own trustedusercakeys"),
                "{remarks:?}"
            );
        }
        let off = look(&[statement("trustedusercakeys", "none", block)]);
        assert!(off.unwrap().remarks[0].contains("keeps its own"));
    }

    #[test]
    fn a_command_of_root_is_refused_and_one_of_another_account_is_remarked_on() {
        let statements = [
            statement("authorizedkeyscommand", "/usr/bin/x %u", None),
            statement("authorizedkeyscommanduser", "toor", None),
        ];
        let command = look(&statements).unwrap().commands.remove(0);
        assert_eq!(command.words, ["/usr/bin/x", "%u"]);
        let account = |uid| Account {
            name: "toor".to_owned(),
            uid,
            gid: 0,
            home: "/".into(),
        };
        assert!(matches!(
            command.account_remark("eic", &[account(0)]),
            Err(InstallError::ChainedAsRoot { .. })
        ));
        assert!(
            command
                .account_remark("eic", &[account(7)])
                .unwrap()
                .is_some()
        );
        assert_eq!(command.account_remark("toor", &[account(0)]).unwrap(), None);
    }

    #[test]
    fn the_official_program_and_our_own_are_not_chained() {
        for value in [
            "/opt/aws/bin/eic_run_authorized_keys %u %f",
            "/usr/share/ec2-instance-connect/eic_run_authorized_keys %u %f",
            "/usr/local/bin/eic-agent authorized-keys %u %f",
            "none",
        ] {
            let existing = look(&[statement("authorizedkeyscommand", value, None)]).unwrap();
            assert!(existing.commands.is_empty(), "{value}");
        }
    }

    #[test]
    fn commands_on_sshds_command_line_are_chained_too() {
        let option = |keyword: &str, value: &str| Override {
            keyword: keyword.to_owned(),
            value: value.to_owned(),
            source: "/unit".into(),
        };
        let overrides = [
            option(
                "authorizedkeyscommand",
                "/usr/bin/sss_ssh_authorizedkeys %u",
            ),
            option("authorizedkeyscommanduser", "nobody"),
        ];
        let found = Existing::look(&[], &overrides, false).unwrap();
        assert_eq!(found.commands[0].user.as_deref(), Some("nobody"));
        let other_ca = [option("trustedusercakeys", "/k")];
        assert!(Existing::look(&[], &other_ca, false).is_err());
    }

    #[test]
    fn match_blocks_keep_their_own_command_and_are_told() {
        let existing = look(&[
            statement(
                "authorizedkeyscommand",
                "/opt/git-keys %u",
                Some("User git"),
            ),
            statement("authorizedkeyscommanduser", "git", Some("User git")),
        ])
        .unwrap();
        assert!(existing.commands.is_empty());
        assert_eq!(existing.tolerated.len(), 2);
        assert_eq!(existing.remarks.len(), 1);
        assert!(existing.remarks[0].contains("`Match User git`"));
    }

    #[test]
    fn an_administrators_revocation_list_stays() {
        let existing = look(&[statement("revokedkeys", "/etc/ssh/krl", None)]).unwrap();
        assert_eq!(existing.revoked_keys, Some("/etc/ssh/krl".into()));
        assert_eq!(existing.remarks.len(), 1);
    }
}
