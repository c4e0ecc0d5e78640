//! Why a login cannot be prepared, and with which exit code that ends.

use eic_aws::error::AwsError;
use eic_aws::http_client::HttpError;
use eic_protocol::api::problem::ProblemCode;
use eic_protocol::instance_id::InstanceId;
use eic_protocol::os_user::OsUser;
use eic_protocol::text::printable;

use super::Resident;
use crate::ca::CaError;
use crate::cause::Cause;
use crate::config::ConfigError;
use crate::credentials::{CredentialsError, Selection, TokenError};
use crate::exit_code::{self, Failure};
use crate::fallback::NoPush;
use crate::files::FileError;
use crate::host_name::HostName;
use crate::host_spec::UnknownPlace;
use crate::host_trust::memory::MemoryError;
use crate::host_trust::verdict::Untrusted;
use crate::key::KeyError;
use crate::transport::endpoint::Obstacle;
use crate::transport::ssm::StartError;

/// Why a login cannot be prepared.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// No credentials.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// No ID token, or one that does not count.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The CA.
    #[error(transparent)]
    Ca(#[from] CaError),
    /// AWS, while something was tried.
    #[error("{doing}: {cause}")]
    Aws {
        /// What was tried.
        doing: &'static str,
        /// Why it failed.
        cause: AwsError,
    },
    /// No such host.
    #[error("no running instance `{0}` is known, or you may not log in there")]
    UnknownHost(HostName),
    /// Several hosts.
    #[error("`{host}` names {} instances: use an id: {}", .candidates.len(), join(.candidates))]
    Ambiguous {
        /// The name.
        host: HostName,
        /// Their ids, each with what tells it from the others.
        candidates: Vec<String>,
    },
    /// A name was found, but a place where it may be too did not answer.
    #[error(
        "{} could not be searched, and `{host}` may name another host there: put the place of the one that is meant \
         in front (PLACE/{host}), or use its id: {cause}", printable(.place)
    )]
    NotSearched {
        /// The name.
        host: HostName,
        /// What was not searched.
        place: String,
        /// Why not.
        cause: Box<LoginError>,
    },
    /// A place that is not configured.
    #[error(transparent)]
    Place(#[from] UnknownPlace),
    /// Nobody said which account to use, and the name of this machine's user is none of the host's.
    #[error("{}", which_user(.host, .given, .users))]
    WhichUser {
        /// The host as typed.
        host: HostName,
        /// The name of this machine's user.
        given: OsUser,
        /// Accounts that are known to be good.
        users: Vec<OsUser>,
    },
    /// The answer is about another host.
    #[error("asked for {asked}, the CA answered about {answered}: nothing of it is used")]
    OtherInstance {
        /// What was asked.
        asked: String,
        /// What came.
        answered: InstanceId,
    },
    /// The CA signs with a key that only a later root names.
    #[error(
        "the certificate is not used: the CA signs with a key of its root document {offered}, and the installed one is \
         {installed}; the ones between are not known here: run `eic-login setup --undo`, then `eic-login setup URL`"
    )]
    RootBehind {
        /// Version of the installed root.
        installed: u64,
        /// Version of the CA's.
        offered: u64,
    },
    /// No push is possible.
    #[error("{reason}{}", .ca.as_ref().map(|e| format!(" ({e})")).unwrap_or_default())]
    NoPush {
        /// Why not.
        reason: NoPush,
        /// Why one would be needed.
        ca: Option<CaError>,
    },
    /// A key by hand where a login would push none.
    #[error("a certificate opens {0}, so no key is pushed: use plain ssh, or `eic-login issue`")]
    NotByPush(InstanceId),
    /// The host key.
    #[error(transparent)]
    Untrusted(#[from] Untrusted),
    /// The console could not be read just now, and it decides.
    #[error(
        "the console of {instance} cannot be read now, and its host key is not known yet: {cause}; try again"
    )]
    Console {
        /// The instance.
        instance: InstanceId,
        /// Why not.
        cause: AwsError,
    },
    /// A host key for a login that nobody opened.
    #[error(
        "no login to `{0}` is being made: ssh must use `eic-login connect` as its ProxyCommand"
    )]
    NoLogin(HostName),
    /// The socket's name is too long.
    #[error("`{0}` is too long for a socket's name: use the instance id")]
    SocketName(String),
    /// A certificate is wanted, and there is nobody to issue it.
    #[error("certificates need a CA: run `eic-login setup URL`")]
    NoCa,
    /// No endpoint leads to the host.
    #[error(transparent)]
    Endpoint(#[from] Obstacle),
    /// No session of Session Manager.
    #[error(transparent)]
    Session(#[from] StartError),
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// What is remembered.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// A push cannot be queued for the audit.
    #[error("the pushed key cannot be noted for the audit: {0}")]
    Events(String),
    /// A key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A socket.
    #[error("cannot open the login's socket: {0}")]
    Socket(std::io::Error),
}

fn join(candidates: &[String]) -> String {
    let shown: Vec<String> = candidates.iter().take(5).map(|c| printable(c)).collect();
    let more = if candidates.len() > shown.len() {
        ", ..."
    } else {
        ""
    };
    format!("{}{more}", shown.join(", "))
}

fn which_user(host: &HostName, given: &OsUser, users: &[OsUser]) -> String {
    let not_known = format!("no account is named, and `{given}` is only this machine's user");
    match users {
        [] => format!(
            "{not_known}: type `ssh USER@{host}` with an account of the host (often ec2-user, ubuntu or admin), \
             or give the instance the tag eic:user"
        ),
        [only] => format!("{not_known}: type `ssh {only}@{host}`"),
        [first, ..] => {
            let all: Vec<&str> = users.iter().take(5).map(OsUser::as_str).collect();
            format!(
                "{not_known}: type `ssh {first}@{host}`, or another of {}",
                all.join(", ")
            )
        }
    }
}

impl From<LoginError> for Failure {
    fn from(error: LoginError) -> Self {
        let cause = cause(&error);
        let message = error.to_string();
        let code = match error {
            LoginError::NotSearched { cause, .. } => {
                return Self {
                    message,
                    ..Self::from(*cause)
                };
            }
            LoginError::Config(error) => return error.into(),
            LoginError::Credentials(error) => return error.into(),
            LoginError::Token(error) => return error.into(),
            LoginError::Ca(error) => return error.into(),
            LoginError::Untrusted(_)
            | LoginError::OtherInstance { .. }
            | LoginError::RootBehind { .. }
            | LoginError::NoLogin(_) => exit_code::UNTRUSTED,
            LoginError::Aws { ref cause, .. } | LoginError::Console { ref cause, .. }
                if cause.is_transient() || is_of_proxy(cause) =>
            {
                exit_code::UNREACHABLE
            }
            LoginError::Endpoint(_) | LoginError::Session(_) => exit_code::UNREACHABLE,
            LoginError::Aws { .. }
            | LoginError::UnknownHost(_)
            | LoginError::NotByPush(_)
            | LoginError::NoPush { .. } => exit_code::DENIED,
            LoginError::Ambiguous { .. }
            | LoginError::Place(_)
            | LoginError::WhichUser { .. }
            | LoginError::SocketName(_)
            | LoginError::NoCa => exit_code::USAGE,
            _ => exit_code::FAILURE,
        };
        let passing = code == exit_code::UNREACHABLE || is_of_a_boot(&error);
        Self::new(code, message)
            .that_may_pass(passing)
            .because(cause)
    }
}

/// For those errors that do not bring their own.
fn cause(error: &LoginError) -> Cause {
    match error {
        LoginError::Aws { doing, cause } => cause_of_aws(doing, cause),
        LoginError::UnknownHost(_) => Cause::UnknownHost,
        LoginError::Ambiguous { .. } => Cause::Ambiguous,
        LoginError::Place(_) => Cause::UnknownPlace,
        LoginError::WhichUser { .. } => Cause::WhichUser,
        LoginError::OtherInstance { .. } => Cause::WrongCertificate,
        LoginError::RootBehind { .. } => Cause::RootBehind,
        LoginError::NoPush { reason, .. } => match reason {
            NoPush::Restricted => Cause::Restricted,
            NoPush::Enrolled | NoPush::EnrolledElsewhere => Cause::Enrolled,
            NoPush::SwitchedOff => Cause::SwitchedOff,
            NoPush::BreakGlassOnly => Cause::BreakGlass,
            NoPush::Managed => Cause::Managed,
        },
        LoginError::Untrusted(untrusted) => match untrusted {
            Untrusted::Unreadable => Cause::NoCommonAlgorithm,
            Untrusted::Certificate { .. } => Cause::HostCertificate,
            Untrusted::Revoked(_) => Cause::HostRevoked,
            Untrusted::PlainKey(_) => Cause::HostKeyMissing,
            Untrusted::Changed { .. } => Cause::HostKeyChanged,
            Untrusted::NotOnConsole { .. } => Cause::NotOnConsole,
            Untrusted::NotHarvested { .. } => Cause::NotHarvested,
            Untrusted::Contradicting(_) => Cause::ConsoleContradicts,
        },
        LoginError::Console { .. } => Cause::ConsoleUnreadable,
        LoginError::NoLogin(_) => Cause::OverriddenOptions,
        _ => Cause::Other,
    }
}

fn cause_of_aws(doing: &str, error: &AwsError) -> Cause {
    let denied = ["UnauthorizedOperation", "AccessDenied", "AuthException"];
    let is_denied = |code: &str| denied.iter().any(|denied| code.starts_with(denied));
    match error.code() {
        Some(code) if is_denied(code) && doing.contains("DescribeInstances") => Cause::NoDescribe,
        Some(code) if is_denied(code) => Cause::NoPush,
        Some(code) if NOT_READY.contains(&code) => Cause::NotReady,
        _ if is_of_proxy(error) => Cause::Proxy,
        _ if error.is_transient() => Cause::AwsUnreachable,
        _ => Cause::Other,
    }
}

fn is_of_proxy(error: &AwsError) -> bool {
    matches!(error, AwsError::Http(HttpError::Proxy(_)))
}

/// The codes with which Instance Connect says that the instance is not up.
const NOT_READY: [&str; 2] = [
    "EC2InstanceStateInvalidException",
    "EC2InstanceUnavailableException",
];

/// What an instance answers to before it is up: unknown to a listing of half a minute ago, or not ready for a key.
fn is_of_a_boot(error: &LoginError) -> bool {
    match error {
        LoginError::UnknownHost(_) => true,
        LoginError::Aws { cause, .. } => cause.code().is_some_and(|c| NOT_READY.contains(&c)),
        _ => false,
    }
}

impl Resident {
    /// An error of AWS. Where it says that the credentials are no good, they are forgotten and the remedy is told.
    pub(super) fn aws_error(
        &self,
        selection: &Selection,
        doing: &'static str,
        cause: AwsError,
    ) -> LoginError {
        let rejected = cause.code().is_some_and(|code| REJECTED.contains(&code));
        if !rejected {
            return LoginError::Aws { doing, cause };
        }
        self.aws.forget(selection);
        CredentialsError::rejected(selection, &cause.to_string()).into()
    }

    /// An error of the CA while signing in; the same where it passes on that AWS rejects the credentials.
    pub(super) fn sign_in_error(&self, selection: &Selection, error: CaError) -> LoginError {
        self.aws.forget(selection);
        match error {
            CaError::Problem(problem) if problem.code == ProblemCode::ProofRefused => {
                let told = CaError::Problem(problem).to_string();
                CredentialsError::rejected(selection, &told).into()
            }
            other => other.into(),
        }
    }
}

/// The codes with which EC2 and Instance Connect say that credentials have ended or never were.
const REJECTED: [&str; 7] = [
    "RequestExpired",
    "ExpiredToken",
    "ExpiredTokenException",
    "AuthFailure",
    "UnrecognizedClientException",
    "InvalidClientTokenId",
    "InvalidSignatureException",
];
