//! The sshd layouts of the distributions: trees with their documented defaults, and in front of the real sshd
//! a stand-in that says an older version and refuses what that version does not know.

use crate::attempt::{certificate, login, user_key};
use crate::documents::INSTANCE;
use crate::sandbox::{Host, current, ok, stderr, succeed};

/// One distribution.
struct Layout {
    version: &'static str,
    /// Files below the host's folder; the usual sshd_config.d is emptied first.
    files: &'static [(&'static str, &'static str)],
    /// Where our lines must stand.
    lines_in: &'static str,
    /// A unit drop-in that must be made.
    unit: Option<&'static str>,
}

const BIG_MAIN: &str = "Include /etc/ssh/sshd_config.d/*.conf\n\nKbdInteractiveAuthentication no\nUsePAM yes\nX11Forwarding yes\nPrintMotd no\nAcceptEnv LANG LC_*\nSubsystem sftp /usr/lib/openssh/sftp-server\n";
const DROP_IN: &str = "etc/ssh/sshd_config.d/10-eic.conf";

const DEBIAN_12: Layout = Layout {
    version: "9.2",
    files: &[("etc/ssh/sshd_config", BIG_MAIN)],
    lines_in: DROP_IN,
    unit: None,
};

/// With cloud-init's drop-in and AWS's package.
const UBUNTU_24_04: Layout = Layout {
    version: "9.6",
    files: &[
        ("etc/ssh/sshd_config", BIG_MAIN),
        (
            "etc/ssh/sshd_config.d/50-cloud-init.conf",
            "PasswordAuthentication no\n",
        ),
        (
            "etc/ssh/sshd_config.d/60-cloudimg-settings.conf",
            "PasswordAuthentication no\n",
        ),
        (
            "usr/lib/systemd/system/ssh.service.d/ec2-instance-connect.conf",
            "[Service]\nExecStart=\nExecStart=/usr/sbin/sshd -D -o \"AuthorizedKeysCommand /usr/share/ec2-instance-connect/eic_run_authorized_keys %%u %%f\" -o \"AuthorizedKeysCommandUser ec2-instance-connect\" $SSHD_OPTS\n",
        ),
    ],
    lines_in: DROP_IN,
    unit: Some("etc/systemd/system/ssh.service.d/zz-eic.conf"),
};

/// No Include; AWS's program named in the main file itself.
const AMAZON_LINUX_2: Layout = Layout {
    version: "7.4",
    files: &[(
        "etc/ssh/sshd_config",
        "HostKey /etc/ssh/ssh_host_rsa_key\nHostKey /etc/ssh/ssh_host_ecdsa_key\nHostKey /etc/ssh/ssh_host_ed25519_key\nSyslogFacility AUTHPRIV\nAuthorizedKeysFile .ssh/authorized_keys\nPasswordAuthentication no\nChallengeResponseAuthentication no\nGSSAPIAuthentication yes\nGSSAPICleanupCredentials no\nUsePAM yes\nX11Forwarding yes\nUsePrivilegeSeparation sandbox\nAcceptEnv LANG LC_CTYPE LC_NUMERIC LC_TIME LC_COLLATE LC_MONETARY LC_MESSAGES\nAcceptEnv XMODIFIERS\nSubsystem sftp /usr/libexec/openssh/sftp-server\nAuthorizedKeysCommand /opt/aws/bin/eic_run_authorized_keys %u %f\nAuthorizedKeysCommandUser ec2-instance-connect\n",
    )],
    lines_in: "etc/ssh/sshd_config",
    unit: None,
};

const AMAZON_LINUX_2023: Layout = Layout {
    version: "8.7",
    files: &[
        (
            "etc/ssh/sshd_config",
            "Include /etc/ssh/sshd_config.d/*.conf\nSyslogFacility AUTHPRIV\nPermitRootLogin forced-commands-only\nAuthorizedKeysFile .ssh/authorized_keys\nPasswordAuthentication no\nSubsystem sftp /usr/libexec/openssh/sftp-server\nAuthorizedKeysCommand /opt/aws/bin/eic_run_authorized_keys %u %f\nAuthorizedKeysCommandUser ec2-instance-connect\n",
        ),
        ("etc/ssh/sshd_config.d/50-redhat.conf", REDHAT),
        ("etc/crypto-policies/back-ends/opensshserver.config", CRYPTO),
    ],
    lines_in: DROP_IN,
    unit: None,
};

/// 8.0 has no Include; the system-wide crypto policy comes on the command line.
const RHEL_8: Layout = Layout {
    version: "8.0",
    files: &[
        (
            "etc/ssh/sshd_config",
            "HostKey /etc/ssh/ssh_host_rsa_key\nHostKey /etc/ssh/ssh_host_ecdsa_key\nHostKey /etc/ssh/ssh_host_ed25519_key\nSyslogFacility AUTHPRIV\nPermitRootLogin yes\nAuthorizedKeysFile .ssh/authorized_keys\nPasswordAuthentication no\nChallengeResponseAuthentication no\nGSSAPIAuthentication yes\nUsePAM yes\nX11Forwarding yes\nPrintMotd no\nSubsystem sftp /usr/libexec/openssh/sftp-server\n",
        ),
        ("etc/sysconfig/sshd", "# CRYPTO_POLICY=\nOPTIONS=\"\"\n"),
        (
            "usr/lib/systemd/system/sshd.service",
            "[Service]\nType=notify\nEnvironmentFile=-/etc/crypto-policies/back-ends/opensshserver.config\nEnvironmentFile=-/etc/sysconfig/sshd\nExecStart=/usr/sbin/sshd -D $OPTIONS $CRYPTO_POLICY\nExecReload=/bin/kill -HUP $MAINPID\nKillMode=process\n",
        ),
        (
            "usr/lib/systemd/system/sshd.service.d/ec2-instance-connect.conf",
            "[Service]\nExecStart=\nExecStart=/usr/sbin/sshd -D -o AuthorizedKeysCommand='/opt/aws/bin/eic_run_authorized_keys %%u %%f' -o AuthorizedKeysCommandUser=ec2-instance-connect $OPTIONS $CRYPTO_POLICY\n",
        ),
    ],
    lines_in: "etc/ssh/sshd_config",
    unit: Some("etc/systemd/system/sshd.service.d/zz-eic.conf"),
};

const RHEL_9: Layout = Layout {
    version: "8.7",
    files: &[
        (
            "etc/ssh/sshd_config",
            "Include /etc/ssh/sshd_config.d/*.conf\nAuthorizedKeysFile .ssh/authorized_keys\nSubsystem sftp /usr/libexec/openssh/sftp-server\n",
        ),
        ("etc/ssh/sshd_config.d/50-redhat.conf", REDHAT),
        (
            "etc/ssh/sshd_config.d/01-permitrootlogin.conf",
            "PermitRootLogin yes\n",
        ),
        ("etc/crypto-policies/back-ends/opensshserver.config", CRYPTO),
    ],
    lines_in: DROP_IN,
    unit: None,
};

const REDHAT: &str = "Include /etc/crypto-policies/back-ends/opensshserver.config\nSyslogFacility AUTHPRIV\nChallengeResponseAuthentication no\nGSSAPIAuthentication yes\nGSSAPICleanupCredentials no\nUsePAM yes\nX11Forwarding yes\nPrintMotd no\n";
const CRYPTO: &str = "Ciphers aes256-gcm@openssh.com,chacha20-poly1305@openssh.com,aes256-ctr,aes128-gcm@openssh.com,aes128-ctr\nMACs hmac-sha2-256-etm@openssh.com,hmac-sha1-etm@openssh.com,umac-128-etm@openssh.com,hmac-sha2-512-etm@openssh.com,hmac-sha2-256,hmac-sha1,umac-128@openssh.com,hmac-sha2-512\nKexAlgorithms curve25519-sha256,curve25519-sha256@libssh.org,ecdh-sha2-nistp256,ecdh-sha2-nistp384,ecdh-sha2-nistp521\nHostKeyAlgorithms ecdsa-sha2-nistp256,ecdsa-sha2-nistp256-cert-v01@openssh.com,ssh-ed25519,ssh-ed25519-cert-v01@openssh.com,rsa-sha2-256,rsa-sha2-512\nPubkeyAcceptedAlgorithms ecdsa-sha2-nistp256,ecdsa-sha2-nistp256-cert-v01@openssh.com,ssh-ed25519,ssh-ed25519-cert-v01@openssh.com,rsa-sha2-256,rsa-sha2-512\nCASignatureAlgorithms ecdsa-sha2-nistp256,ecdsa-sha2-nistp384,ssh-ed25519,rsa-sha2-256,rsa-sha2-512\n";

const SLES_15: Layout = Layout {
    version: "8.4",
    files: &[(
        "etc/ssh/sshd_config",
        "AuthorizedKeysFile .ssh/authorized_keys\nUsePAM yes\nX11Forwarding yes\nSubsystem sftp /usr/lib/ssh/sftp-server\nAcceptEnv LANG LC_CTYPE LC_NUMERIC LC_TIME LC_COLLATE LC_MONETARY LC_MESSAGES\nAcceptEnv LC_IDENTIFICATION LC_ALL\n",
    )],
    lines_in: "etc/ssh/sshd_config",
    unit: None,
};

/// Newer SUSE: the main file is the distribution's, the administrator has drop-ins only.
const SUSE_USR_ETC: Layout = Layout {
    version: "10.0",
    files: &[(
        "usr/etc/ssh/sshd_config",
        "Include /etc/ssh/sshd_config.d/*.conf\nInclude /usr/etc/ssh/sshd_config.d/*.conf\nAuthorizedKeysFile .ssh/authorized_keys\nUsePAM yes\nX11Forwarding yes\nSubsystem sftp /usr/libexec/ssh/sftp-server\n",
    )],
    lines_in: DROP_IN,
    unit: None,
};

/// Settings for one port or address: `sshd -T` judges them only where it is told of both ends.
const BY_PORT: Layout = Layout {
    version: "9.2",
    files: &[
        ("etc/ssh/sshd_config", BIG_MAIN),
        (
            "etc/ssh/sshd_config.d/60-ports.conf",
            "Match LocalPort 2222\n  PasswordAuthentication no\nMatch LocalAddress 10.0.0.1\n  PasswordAuthentication no\n",
        ),
    ],
    lines_in: DROP_IN,
    unit: None,
};

/// In front of the real sshd: says `VERSION`, knows no keyword or token that is newer.
const STAND_IN: &str = r#"#!/bin/sh
version=VERSION
number=$(echo "$version" | awk -F. '{ printf "%d%02d", $1, $2 }')
if [ "$1" = -V ]; then
  [ "$number" -ge 902 ] || echo "unknown option -- V" >&2
  echo "OpenSSH_${version}p1, OpenSSL 1.0.2k-fips  26 Jan 2017" >&2
  [ "$number" -ge 902 ] && exit 0
  echo "usage: sshd [-46DdeiqTt] [-C connection_spec] [-c host_cert_file]" >&2
  exit 1
fi
config=/etc/ssh/sshd_config
[ -e "$config" ] || config=/usr/etc/ssh/sshd_config
next=
for word; do
  [ "$next" = f ] && config=$word
  next=
  [ "$word" = -f ] && next=f
done
refuse() {
  if [ "$number" -lt "$1" ] && grep -Eqi "$2" "$config"; then
    echo "$config: line 1: Bad configuration option: $3" >&2
    exit 255
  fi
}
refuse 802 '^[[:space:]]*Include[[:space:]]' Include
refuse 709 '^[[:space:]]*CASignatureAlgorithms' CASignatureAlgorithms
refuse 805 '^[[:space:]]*PubkeyAcceptedAlgorithms' PubkeyAcceptedAlgorithms
refuse 904 '^[[:space:]]*Authorized(Keys|Principals)Command .*%[CD]' token
case " $* " in *" -f "*) exec /usr/sbin/sshd.real "$@" ;; esac
exec /usr/sbin/sshd.real -f "$config" "$@"
"#;

fn host(layout: &Layout) -> Option<Host> {
    let host = Host::new()?;
    let _ = std::fs::remove_dir_all(host.path("etc/ssh/sshd_config.d"));
    std::fs::remove_file(host.path("etc/ssh/sshd_config")).unwrap();
    for (path, text) in layout.files {
        host.write(path, text);
    }
    host.copy("/usr/sbin/sshd", "usr/sbin/sshd.real");
    host.program(
        "usr/sbin/sshd",
        &STAND_IN.replace("VERSION", layout.version),
    );
    // The account of the image, with a locked password as everywhere.
    let account = ["-M", "-d", "/nonexistent", "-s", "/bin/sh", "ec2-user"];
    succeed(host.command("useradd").args(account));
    host.documents(&current());
    user_key(&host);
    Some(host)
}

/// Installs, logs in, installs again, takes back.
fn is_set_up(layout: &Layout) {
    // J-08
    let Some(host) = host(layout) else { return };
    ok(&host.install(&["--dry-run"]));
    let before = host.snapshot();
    let said = ok(&host.install(&[]));
    assert!(said.starts_with("installed: "), "{said}");
    assert!(!said.contains("trial"), "{said}");
    let lines = host.read(layout.lines_in);
    assert!(
        lines.contains(
            "AuthorizedPrincipalsCommand /usr/local/bin/eic-agent authorized-principals %u %F\n"
        ),
        "{lines}"
    );
    if let Some(unit) = layout.unit {
        assert!(!host.read(unit).contains("AuthorizedKeysCommand"));
    }
    certificate(&host, &format!("root@{INSTANCE}"));
    let output = login(&host, "root");
    assert!(
        stderr(&output).contains("Accepted certificate ID"),
        "{}",
        stderr(&output)
    );
    let after = host.snapshot();
    assert!(ok(&host.install(&[])).starts_with("nothing to change: "));
    assert_eq!(host.snapshot(), after);
    ok(&host.agent(&["uninstall"]));
    let without_copies = |lines: Vec<String>| -> Vec<String> {
        lines
            .into_iter()
            .filter(|line| !line.contains("/passwd-"))
            .collect()
    };
    assert_eq!(without_copies(host.snapshot()), without_copies(before));
}

#[test]
fn the_stand_in_refuses_what_an_old_sshd_refuses() {
    let Some(host) = host(&AMAZON_LINUX_2) else {
        return;
    };
    host.write("etc/ssh/other", "Include /etc/ssh/x\n");
    let output = host
        .command("sshd")
        .args(["-t", "-f", "/etc/ssh/other"])
        .output()
        .unwrap();
    assert!(stderr(&output).contains("Bad configuration option: Include"));
}

#[test]
fn an_sshd_before_7_4_is_refused() {
    let layout = Layout {
        version: "6.6",
        ..AMAZON_LINUX_2
    };
    let Some(host) = host(&layout) else { return };
    let before = host.snapshot();
    let output = host.install(&[]);
    assert!(
        stderr(&output).contains("the oldest sshd"),
        "{}",
        stderr(&output)
    );
    // The call itself puts the documents in place.
    assert_eq!(host.snapshot(), before);
}

#[test]
fn a_distributions_own_file_is_not_edited() {
    let layout = Layout {
        files: &[("usr/etc/ssh/sshd_config", "UsePAM yes\n")],
        ..SUSE_USR_ETC
    };
    let Some(host) = host(&layout) else { return };
    let output = host.install(&[]);
    assert!(
        stderr(&output).contains("it belongs to the distribution"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn debian_and_ubuntu_are_set_up() {
    is_set_up(&DEBIAN_12);
    is_set_up(&UBUNTU_24_04);
}

#[test]
fn a_host_with_settings_by_port_is_set_up() {
    is_set_up(&BY_PORT);
}

#[test]
fn amazon_linux_is_set_up() {
    is_set_up(&AMAZON_LINUX_2);
    is_set_up(&AMAZON_LINUX_2023);
}

#[test]
fn red_hat_is_set_up() {
    is_set_up(&RHEL_8);
    is_set_up(&RHEL_9);
}

#[test]
fn suse_is_set_up() {
    is_set_up(&SLES_15);
    is_set_up(&SUSE_USR_ETC);
}
