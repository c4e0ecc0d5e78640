//! `eic-ca policy check|explain`: what a policy means, before anybody relies on it.

use std::net::IpAddr;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use eic_protocol::arn::{Arn, CallerArn};
use eic_protocol::cert::options::{Extension, SourceAddresses};
use eic_protocol::instance_id::InstanceId;
use eic_protocol::os_user::OsUser;

use super::config_file::ConfigFile;
use super::inventory::{LookUpError, find_host};
use super::output::print;
use super::runtime::block_on;
use crate::app::facts::resource;
use crate::app::policy_sources;
use crate::clock::Clock;
use crate::config::{Config, ConfigError};
use crate::policy::{
    Action, Asked, Caller, Cidr, Claims, Decision, HiddenClaims, LoadError, PolicySet, Proof,
    Request, Severity, Source, check, explain,
};
use crate::web_token::issuer::Issuer;

/// What to do with the policy.
#[derive(Debug, Args)]
pub struct PolicyArgs {
    #[command(flatten)]
    config: ConfigFile,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Load the policy and tell what may not mean what it seems to; errors end it with exit code 1.
    Check,
    /// Decide one request and tell why: which statement decided, or what was missing.
    Explain(Box<ExplainArgs>),
}

#[derive(Debug, Args)]
struct ExplainArgs {
    /// The caller, as sts:GetCallerIdentity names it; or a role, for any session of it; or `https://issuer#subject`.
    #[arg(long, value_name = "ARN", value_parser = asked_caller)]
    caller: Asker,
    /// A claim of the issuer's token, `name=value`; once for each value.
    #[arg(long = "claim", value_name = "CLAIM", value_parser = claim)]
    claims: Vec<(String, String)>,
    /// The caller's unique id, where a policy names it.
    #[arg(long, value_name = "ID")]
    user_id: Option<String>,
    /// Somebody other than the caller vouches for the name.
    #[arg(long)]
    attested: bool,
    /// The credentials are a long-term key (AKIA…).
    #[arg(long)]
    long_term_key: bool,
    /// The host.
    #[arg(long, value_name = "ID")]
    instance: InstanceId,
    /// The account on the host.
    #[arg(long, value_name = "USER")]
    user: OsUser,
    /// Where the caller is.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    source: IpAddr,
    /// The request comes over plain HTTP.
    #[arg(long)]
    plain_http: bool,
    /// The lifetime asked for, in seconds.
    #[arg(long, value_name = "SECONDS")]
    ttl: Option<u64>,
    /// The extensions asked for, separated by commas.
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    extensions: Option<Vec<Extension>>,
    /// The only command of the certificate.
    #[arg(long, value_name = "COMMAND")]
    force_command: Option<String>,
    /// The only addresses of the certificate, separated by commas.
    #[arg(long, value_name = "CIDRS", value_delimiter = ',')]
    source_address: Vec<String>,
    /// Why access is needed.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Type of the public key.
    #[arg(long, value_name = "TYPE", default_value = "ssh-ed25519")]
    key_type: String,
    /// When, in Unix seconds; the default is now.
    #[arg(long, value_name = "SECONDS")]
    at: Option<u64>,
}

/// Runs the command. A denial, and an error among the findings, ends it with exit code 1.
///
/// # Errors
/// [`PolicyCommandError`]
pub fn run(args: &PolicyArgs) -> Result<ExitCode, PolicyCommandError> {
    let config = args.config.load()?;
    let set = PolicySet::load(&policy_sources(&config))?;
    match &args.verb {
        Verb::Check => Ok(print_findings(&config, &set)),
        Verb::Explain(question) => print_explanation(&config, &set, question),
    }
}

fn print_findings(config: &Config, set: &PolicySet) -> ExitCode {
    let findings = check(set, &proofs(config), false);
    for finding in &findings {
        print(format_args!("{finding}\n"));
    }
    print(format_args!(
        "statements in force: {}, left unread: {}, policy {}\n",
        set.statement_count(),
        set.unread().len(),
        set.digest()
    ));
    if findings
        .iter()
        .any(|finding| finding.severity == Severity::Error)
    {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

/// The proofs that the configuration takes.
fn proofs(config: &Config) -> Vec<Proof> {
    let web_identity = !config.aws_sts.web_identity.is_empty();
    [
        (Proof::AwsSts, true),
        (Proof::WebIdentity, web_identity),
        (Proof::Oidc, !config.oidc.is_empty()),
    ]
    .into_iter()
    .filter_map(|(proof, taken)| taken.then_some(proof))
    .collect()
}

fn print_explanation(
    config: &Config,
    set: &PolicySet,
    args: &ExplainArgs,
) -> Result<ExitCode, PolicyCommandError> {
    let now = args.at.unwrap_or_else(|| Clock::system().now());
    let host = block_on(find_host(config, &args.instance))??;
    let host = host.ok_or_else(|| PolicyCommandError::NoSuchHost(args.instance.clone()))?;
    let sources = source_addresses(&args.source_address)?;
    let asked = Asked {
        os_user: Some(&args.user),
        ttl_seconds: args.ttl,
        extensions: args
            .extensions
            .as_ref()
            .map(|list| list.iter().copied().collect()),
        force_command: args.force_command.as_deref(),
        source_address: &sources,
        reason: args.reason.as_deref(),
        key_type: Some(&args.key_type),
        ..Asked::default()
    };
    let (caller, resource) = (caller(config, args), resource(&host));
    let explanation = explain(
        set,
        &Request {
            caller: &caller,
            action: Action::SendSshPublicKey,
            resource: &resource,
            asked: &asked,
            source: Source::of(args.source, &config.nat),
            secure_transport: !args.plain_http,
            now,
        },
    );
    print(&explanation);
    Ok(match explanation.decision {
        Decision::Allow(_) => ExitCode::SUCCESS,
        Decision::Deny(_) => ExitCode::FAILURE,
    })
}

fn caller(config: &Config, args: &ExplainArgs) -> Caller {
    let arn = match &args.caller {
        Asker::Aws(arn) => arn,
        Asker::Subject { issuer, subject } => return of_issuer(config, issuer, subject, args),
    };
    let caller = Caller::aws(
        arn.clone(),
        args.user_id.as_deref().unwrap_or_default(),
        None,
        args.attested,
    );
    if args.long_term_key {
        caller.with_long_term_key()
    } else {
        caller
    }
}

/// With the claims as policy would see them: those that the configuration keeps, if it says which.
fn of_issuer(config: &Config, issuer: &Issuer, subject: &str, args: &ExplainArgs) -> Caller {
    let rules = config.oidc.iter().find(|own| own.issuer.issuer == *issuer);
    let kept = rules.and_then(|rules| rules.claims.as_ref());
    let mut claims = Claims::new();
    for name in kept.into_iter().flatten() {
        claims.insert(name.clone(), Vec::new());
    }
    for (name, value) in &args.claims {
        if kept.is_none_or(|kept| kept.contains(name)) {
            claims.entry(name.clone()).or_default().push(value.clone());
        }
    }
    let hidden = kept.map_or(HiddenClaims::None, |_| HiddenClaims::Others);
    Caller::oidc(issuer.as_str(), subject, claims).with_hidden_claims(hidden)
}

fn claim(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write `name=value`")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// Whom a question is about.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Asker {
    Aws(CallerArn),
    Subject { issuer: Issuer, subject: String },
}

/// Session of a role where none is named; such a name is always the caller's own.
const ANY_SESSION: &str = "any-session";

/// `arn:aws:sts::…:assumed-role/…` and the like, or `arn:aws:iam::…:role/[path/]name`. Of a role's path
/// nothing is taken over: the proof that the service sees does not show it either.
fn asked_caller(text: &str) -> Result<Asker, String> {
    if let Some((issuer, subject)) = text.split_once('#') {
        return Ok(Asker::Subject {
            issuer: issuer.parse().map_err(|e| format!("{e}"))?,
            subject: subject.to_owned(),
        });
    }
    let session = session_of_role(text);
    let arn = session.as_deref().unwrap_or(text);
    arn.parse().map(Asker::Aws).map_err(|e| format!("{e}"))
}

fn session_of_role(text: &str) -> Option<String> {
    let arn: Arn = text.parse().ok()?;
    let name = arn.resource.strip_prefix("role/")?.rsplit('/').next()?;
    let (partition, account) = (arn.partition, arn.account.filter(|_| arn.service == "iam")?);
    Some(format!(
        "arn:{partition}:sts::{account}:assumed-role/{name}/{ANY_SESSION}"
    ))
}

fn source_addresses(blocks: &[String]) -> Result<Vec<Cidr>, PolicyCommandError> {
    if blocks.is_empty() {
        return Ok(Vec::new());
    }
    let invalid = |e: &dyn std::fmt::Display| PolicyCommandError::Source(e.to_string());
    let canonical = SourceAddresses::try_from(blocks.to_vec()).map_err(|e| invalid(&e))?;
    canonical
        .iter()
        .map(|block| {
            block
                .parse()
                .map_err(|e: crate::policy::InvalidCidr| invalid(&e))
        })
        .collect()
}

/// Why nothing is explained.
#[derive(Debug, thiserror::Error)]
pub enum PolicyCommandError {
    /// The configuration, or the inventory file.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The policy.
    #[error(transparent)]
    Policy(#[from] LoadError),
    /// The look-up.
    #[error(transparent)]
    LookUp(#[from] LookUpError),
    /// The host.
    #[error("explain: the inventory has no host `{0}`")]
    NoSuchHost(InstanceId),
    /// The addresses.
    #[error("explain: {0}")]
    Source(String),
    /// No runtime.
    #[error("start: {0}")]
    Runtime(#[from] std::io::Error),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_stands_for_any_session_of_it() {
        let role = "arn:aws:iam::111122223333:role/teams/Dev";
        let any = "arn:aws:sts::111122223333:assumed-role/Dev/any-session";
        assert_eq!(asked_caller(role), Ok(Asker::Aws(any.parse().unwrap())));
        let session = "arn:aws:sts::111122223333:assumed-role/Dev/alice";
        assert_eq!(
            asked_caller(session),
            Ok(Asker::Aws(session.parse().unwrap()))
        );
        assert!(matches!(
            asked_caller("https://issuer.example#repo:a/b"),
            Ok(Asker::Subject { subject, .. }) if subject == "repo:a/b"
        ));
        for bad in [
            "Dev",
            "arn:aws:iam::111122223333:role/",
            "arn:aws:s3:::role/x",
            "issuer.example#x",
        ] {
            assert!(asked_caller(bad).is_err(), "{bad}");
        }
    }
}
