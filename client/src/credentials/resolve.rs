//! What the child process does: resolve the credentials that its environment names, and answer on stdout.
//! It runs once per session (15 minutes), does nothing else, and ends.

use std::io::{Read as _, Write as _};
use std::time::UNIX_EPOCH;

use aws_config::BehaviorVersion;
use aws_config::environment::EnvironmentVariableRegionProvider;
use aws_config::meta::region::RegionProviderChain;
use aws_config::profile::ProfileFileRegionProvider;
use aws_credential_types::provider::ProvideCredentials as _;
use aws_credential_types::provider::error::CredentialsError as ProviderError;
use eic_aws::proxy::Proxy;
use rustix::termios::isatty;
use zeroize::Zeroizing;

use super::child::{Answer, Reason, Wire};
use crate::exit_code;

/// Longest proxy on stdin. Bytes.
const MAX_PROXY: u64 = 64 * 1024;

/// Resolves and writes the answer to stdout, which must be the parent's pipe. `proxied` where it wrote a proxy to stdin.
#[must_use]
pub fn answer_parent(proxied: bool) -> u8 {
    if isatty(std::io::stdout()) {
        crate::terminal::note(
            "`credentials` answers the resident agent; it shows no secrets on a terminal",
        );
        return exit_code::USAGE;
    }
    let protected = crate::key::protect_memory();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let (Ok(()), Ok(runtime)) = (protected, runtime) else {
        return exit_code::FAILURE;
    };
    let proxy = match proxied.then(told_proxy).transpose() {
        Ok(proxy) => proxy,
        Err(_) => return exit_code::FAILURE,
    };
    let answer = runtime.block_on(resolve(proxy.as_ref()));
    let answer = match proxy {
        Some(proxy) => by_way_of(&proxy, answer),
        None => answer,
    };
    let bytes = serde_json::to_vec(&answer).unwrap_or_default();
    match std::io::stdout().lock().write_all(&bytes) {
        Ok(()) => exit_code::OK,
        Err(_) => exit_code::FAILURE,
    }
}

fn told_proxy() -> std::io::Result<Proxy> {
    let mut told = Zeroizing::new(Vec::new());
    std::io::stdin()
        .lock()
        .take(MAX_PROXY)
        .read_to_end(&mut told)?;
    Ok(serde_json::from_slice(&told)?)
}

/// The SDK does not say whether it was the proxy that failed, nor which.
fn by_way_of(proxy: &Proxy, answer: Answer) -> Answer {
    match answer {
        Answer::Failed { reason, message } => Answer::Failed {
            reason,
            message: format!("{message}; by the proxy `{proxy}`"),
        },
        found @ Answer::Found(_) => found,
    }
}

async fn resolve(proxy: Option<&Proxy>) -> Answer {
    // Not the SDK's default region chain: that asks instance metadata, a second or more off EC2.
    let region = RegionProviderChain::first_try(EnvironmentVariableRegionProvider::new())
        .or_else(ProfileFileRegionProvider::default());
    let mut loader = aws_config::defaults(BehaviorVersion::latest()).region(region);
    if let Some(proxy) = proxy {
        loader = loader.http_client(proxy.sdk_client());
    }
    let config = loader.load().await;
    let Some(provider) = config.credentials_provider() else {
        return Answer::Failed {
            reason: Reason::Missing,
            message: "no provider is configured".to_owned(),
        };
    };
    match provider.provide_credentials().await {
        Err(error) => failed(&error),
        Ok(found) => Answer::Found(Wire {
            access_key_id: found.access_key_id().to_owned(),
            secret_access_key: found.secret_access_key().to_owned().into(),
            session_token: found.session_token().map(|token| token.to_owned().into()),
            expires_at: found
                .expiry()
                .and_then(|at| at.duration_since(UNIX_EPOCH).ok())
                .map(|since| since.as_secs()),
            region: config.region().map(ToString::to_string),
            endpoint_ec2: endpoint("AWS_ENDPOINT_URL_EC2", &config),
            endpoint_instance_connect: endpoint("AWS_ENDPOINT_URL_EC2_INSTANCE_CONNECT", &config),
            endpoint_ssm: endpoint("AWS_ENDPOINT_URL_SSM", &config),
            endpoint_sts: endpoint("AWS_ENDPOINT_URL_STS", &config),
        }),
    }
}

/// As the SDKs and tools reference has it: the service's own variable, then `AWS_ENDPOINT_URL` or the profile.
fn endpoint(variable: &str, config: &aws_config::SdkConfig) -> Option<String> {
    let ignored = std::env::var("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS")
        .is_ok_and(|v| v.eq_ignore_ascii_case("true"));
    if ignored {
        return None;
    }
    let own = std::env::var(variable).ok().filter(|url| !url.is_empty());
    own.or_else(|| config.endpoint_url().map(str::to_owned))
}

fn failed(error: &ProviderError) -> Answer {
    let message = exit_code::chain(error);
    let reason = match error {
        ProviderError::CredentialsNotLoaded(_) => Reason::Missing,
        _ if message.to_ascii_lowercase().contains("expired") => Reason::Expired,
        _ => Reason::Failed,
    };
    Answer::Failed { reason, message }
}
