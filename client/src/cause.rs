//! What kind of thing went wrong, and what to do about it: the list behind `eic-login doctor`. The one-line messages
//! of commands say what happened; this says whose turn it is. The words are an interface: scripts read them.

use serde::{Deserialize, Serialize};

macro_rules! causes {
    ($($variant:ident $word:literal $fix:literal;)*) => {
        /// A cause.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum Cause {
            $(#[doc = concat!("`", $word, "`; [`Self::fix`] says what to do.")] #[serde(rename = $word)] $variant,)*
            /// None of the others.
            #[default]
            #[serde(rename = "other")]
            Other,
        }

        impl Cause {
            /// All of them, for documentation and tests.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)* Self::Other];

            /// The word for scripts.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)*
                    Self::Other => "other",
                }
            }

            /// What to do, where that can be said in general.
            #[must_use]
            pub fn fix(self) -> &'static str {
                match self {
                    $(Self::$variant => $fix,)*
                    Self::Other => "the message above is all that is known; ask whoever runs the CA, with its request id",
                }
            }
        }
    };
}

causes! {
    SshVersion "ssh-version" "install an OpenSSH client of version 8.5 or newer";
    Configuration "configuration" "correct ~/.config/eic/config.toml, or run `eic-login setup` again";
    NotSetUp "not-set-up" "run `eic-login setup URL`, or `eic-login setup --no-ca`; until then `eic-login ssh HOST` works";
    NotCovered "host-not-covered" "add a pattern for the name: `eic-login setup URL --match PATTERN`; ids are covered always";
    OverriddenOptions "ssh-options-overridden" "an earlier line of ssh's configuration sets other options for this host: move it below `Include eic.config`";
    Agent "resident-agent" "run `eic-login logout`, then try again; `eic-login agent` shows why it does not start";
    CredentialsMissing "credentials-missing" "do what the message says, or name a profile: AWS_PROFILE=...; without an AWS identity: `eic-login setup URL --issuer URL`";
    CredentialsExpired "credentials-expired" "sign in to AWS again, as the message says";
    CredentialsRejected "credentials-rejected" "AWS does not know these keys any more: renew them, as the message says";
    CredentialsFailed "credentials-failed" "run `aws sts get-caller-identity` with the same environment: it fails the same way";
    IdToken "id-token" "do what the message says: a token serves one sign-in, at this CA, and its issuer and subject must be named there";
    SignIn "sign-in" "run `eic-login`: it opens your issuer's page in the browser, or with `--device` shows a code for another one";
    Clock "clock" "set this machine's clock (timedatectl): proofs and certificates are good for minutes only";
    CaName "ca-name" "the CA's name does not resolve: are you on the company's network or VPN?";
    CaUnreachable "ca-unreachable" "nothing answers at the CA's address: network, VPN, or ask whoever runs the CA";
    Proxy "proxy" "see `proxy` and `no_proxy` in ~/.config/eic/config.toml: its place, its password, whether it may lead there";
    CaUnavailable "ca-unavailable" "the CA answers that it cannot serve now: wait, or tell whoever runs it";
    CaTls "ca-tls" "another server answers at the CA's address, or its TLS certificate is wrong: do not go on; ask whoever runs the CA";
    CaNotACa "not-a-ca" "the configured URL is not that of a CA: run `eic-login setup URL` with the right one";
    Protocol "protocol-version" "update the older of the two: this program or the CA";
    RootBehind "root-behind" "the CA changed its root keys more than once: `eic-login setup --undo`, then `eic-login setup URL`";
    Account "account-not-accepted" "the CA accepts no identities of this AWS account: use a profile of another one";
    CallerRevoked "caller-revoked" "this identity is revoked at the CA: ask whoever runs it";
    NotAllowed "not-allowed" "no policy statement allows you this account on this host: ask for ec2-instance-connect:SendSSHPublicKey on it";
    ConditionsNotMet "conditions-not-met" "policy allows it in another form only: ask for what the message names";
    TooManyRequests "too-many-requests" "wait a minute; a job over many hosts should use a fleet: `eic-login exec --fleet`";
    WrongCertificate "wrong-certificate" "the CA issued something else than was asked for: tell whoever runs it, with the request id";
    UnknownHost "unknown-host" "see that the name, the account and the Region (AWS_PROFILE, [[place]]) are right and the instance runs, or ask for access to it";
    Ambiguous "ambiguous-name" "use an id of the list, or put the place in front: PLACE/NAME";
    UnknownPlace "unknown-place" "use a Region, an account id, or a [[place]] of the configuration";
    NoDescribe "no-permission-describe" "the AWS identity needs ec2:DescribeInstances";
    NoPush "no-permission-push" "the AWS identity needs ec2-instance-connect:SendSSHPublicKey on the instance, for this ec2:osuser";
    AwsUnreachable "aws-unreachable" "AWS does not answer: network, proxy, or AWS's health page";
    NotReady "instance-not-ready" "the instance is not up: `eic-login ssh --wait HOST` waits for it";
    WhichUser "which-user" "name the account, as the message says; the tag eic:user on the instance does it for everybody";
    Restricted "restricted" "the host takes pushed keys only, which cannot carry restrictions: enroll it, or ask for none";
    Enrolled "enrolled-without-ca" "the host opens to certificates only: name its CA (`eic-login setup URL`), wait for it, or use break-glass access of another kind";
    SwitchedOff "instance-connect-off" "enroll the host, or ask its owner to change the tag eic:instance-connect";
    BreakGlass "break-glass-only" "enroll the host: Instance Connect is for the CA's outages there";
    Managed "not-an-ec2-instance" "enroll the host: Instance Connect reaches EC2 instances only";
    HostKeyChanged "host-key-changed" "find out why: if the host was rebuilt, remove it from ~/.local/state/eic/hosts.json";
    HostKeyMissing "host-certificate-missing" "its host certificate is gone, or somebody else answers: look at `eic-agent status` on the host";
    HostRevoked "host-revoked" "do not go on: ask who runs the CA what became of the host (`eic-ca hosts show`)";
    HostCertificate "host-certificate" "somebody else answers at that address, or the host's certificate must be renewed: `eic-agent status` there";
    NotOnConsole "host-key-not-on-console" "somebody else answers at that address: do not go on";
    NotHarvested "host-key-not-harvested" "somebody else answers at that address, or its host keys were replaced: `eic_harvest_hostkeys` on the host tells the new ones";
    ConsoleContradicts "console-contradicts" "look at `aws ec2 get-console-output`: two sets of keys are there, none is trusted";
    ConsoleUnreadable "console-unreadable" "try again, or allow ec2:GetConsoleOutput";
    Refused "connection-refused" "sshd does not listen there: is it running, on which port (tag eic:ssh-port), is the instance up?";
    TimedOut "connection-timed-out" "are you on the host's network, and does its security group admit you on that port?";
    NoAddress "no-address" "the instance has no address: is it running?";
    NotSsh "not-ssh" "something other than sshd listens there: check the port (tag eic:ssh-port)";
    ClosedEarly "closed-early" "sshd closes before it talks: MaxStartups, PerSourcePenalties or hosts.deny on the host; wait a minute";
    NoCommonAlgorithm "no-common-algorithm" "set key_type in a [[host]] profile (FIPS hosts: ecdsa-p256), or update the host's sshd";
    SshConfiguration "ssh-configuration" "correct ssh's configuration at the line that the message names";
    SessionPlugin "session-manager-plugin" "install AWS's session-manager-plugin, version 1.2.498.0 or newer: sessions that are encrypted with a KMS key go through it";
    CertificateRefused "certificate-refused" "the host's sshd refuses the certificate: run `eic-agent doctor --user ACCOUNT` there (TrustedUserCAKeys, principals, account, clock)";
    KeyRefused "pushed-key-refused" "the host takes no pushed keys: has it ec2-instance-connect or eic-agent, and such an account?";
    NothingOffered "nothing-offered" "ssh did not ask this login's agent: its IdentityAgent is overridden";
    TooManyKeys "too-many-keys" "ssh offered other keys first: remove IdentityFile and CertificateFile lines for this host";
    AccountClosed "account-closed" "the account exists, but may not log in: shell, expiry or lock on the host (`chage -l`, `passwd -S`)";
    Booting "still-booting" "the host admits nobody yet: `eic-login ssh --wait HOST` waits";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cause_has_its_own_word_and_a_fix() {
        let mut words = std::collections::HashSet::new();
        for cause in Cause::ALL {
            assert!(words.insert(cause.as_str()), "{cause:?}");
            assert_eq!(serde_json::to_value(cause).unwrap(), cause.as_str());
            assert!(cause.fix().len() > 20, "{cause:?}");
        }
    }
}
