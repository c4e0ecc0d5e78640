//! SELinux and AppArmor: whether they may keep sshd from running this program, and what to do about it.
//! Only told: a policy is the administrator's to load.

use std::path::Path;

/// The type that our policy module (infra/selinux) gives this program.
const EXEC_TYPE: &str = "eic_agent_exec_t";

/// Remarks for the administrator.
pub(super) fn remarks(agent: &Path) -> Vec<String> {
    let enforcing = read("/sys/fs/selinux/enforce");
    let profiles = read("/sys/kernel/security/apparmor/profiles");
    [
        selinux(&enforcing, label(agent).as_deref(), agent),
        apparmor(&profiles, agent),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// The SELinux label of a file, `user:role:type:level`.
fn label(file: &Path) -> Option<String> {
    let mut buffer = [0; 256];
    let length = rustix::fs::getxattr(file, "security.selinux", &mut buffer).ok()?;
    let bytes = buffer.get(..length)?;
    let text = std::str::from_utf8(bytes).ok()?;
    Some(text.trim_end_matches('\0').to_owned())
}

fn selinux(enforce: &str, label: Option<&str>, agent: &Path) -> Option<String> {
    let labelled = label.is_some_and(|label| label.split(':').nth(2) == Some(EXEC_TYPE));
    if enforce.trim() != "1" || labelled {
        return None;
    }
    Some(format!(
        "SELinux is enforcing and {} is not labelled {EXEC_TYPE}: sshd may be kept from running it (load the module in infra/selinux, then restorecon)",
        agent.display()
    ))
}

/// AppArmor lists one profile a line: `/usr/sbin/sshd (enforce)` or `sshd (enforce)`.
fn apparmor(profiles: &str, agent: &Path) -> Option<String> {
    let confined = profiles.lines().any(|line| {
        let (name, mode) = line.split_once(' ').unwrap_or((line, ""));
        name.rsplit('/').next() == Some("sshd") && mode == "(enforce)"
    });
    confined.then(|| {
        format!(
            "AppArmor confines sshd: add `{} Ux,` to /etc/apparmor.d/local/usr.sbin.sshd and reload the profile",
            agent.display()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unlabelled_program_under_an_enforcing_policy_is_told() {
        let agent = Path::new("/usr/local/bin/eic-agent");
        assert!(selinux("1\n", Some("system_u:object_r:bin_t:s0"), agent).is_some());
        assert!(selinux("1\n", None, agent).is_some());
        assert!(selinux("1\n", Some("system_u:object_r:eic_agent_exec_t:s0"), agent).is_none());
        assert!(selinux("0\n", None, agent).is_none());
        assert!(selinux("", None, agent).is_none());
    }

    #[test]
    fn a_confined_sshd_is_told() {
        let agent = Path::new("/usr/local/bin/eic-agent");
        assert!(apparmor("/usr/sbin/sshd (enforce)\n", agent).is_some());
        assert!(apparmor("sshd (enforce)\n", agent).is_some());
        for quiet in [
            "",
            "/usr/sbin/sshd (complain)\n",
            "/usr/bin/man (enforce)\n",
        ] {
            assert!(apparmor(quiet, agent).is_none(), "{quiet}");
        }
    }
}
