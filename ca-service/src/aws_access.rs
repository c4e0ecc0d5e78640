//! The service's own access to AWS accounts: whose credentials are used to ask about which account.
//! Read-only calls about hosts and roles; the identities of callers have nothing to do with it.

use std::collections::HashMap;

use aws_config::sts::AssumeRoleProvider;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::{ProvideCredentials as _, SharedCredentialsProvider};
use eic_aws::endpoint::{Endpoint, InvalidEndpoint};
use eic_aws::http_client::HttpClient;
use eic_aws::proxy::Proxy;
use eic_protocol::arn::{AccountId, Partition};
use eic_protocol::aws_region::AwsRegion;
use tokio::sync::Mutex;

use crate::config::inventory::Ec2Config;

/// Credentials are renewed when they end within this time. Seconds.
const RENEW_BEFORE_END: u64 = 300;

/// One HTTPS client, and credentials by account.
pub struct AwsAccess {
    client: HttpClient,
    accounts: HashMap<AccountId, Account>,
}

struct Account {
    provider: SharedCredentialsProvider,
    current: Mutex<Option<Credentials>>,
}

/// Why an account cannot be asked about.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AccessError {
    /// No `[[inventory.ec2]]` names it.
    #[error("ask about account {0}: no [[inventory.ec2]] names it")]
    NotConfigured(AccountId),
    /// No credentials.
    #[error("get credentials for account {account}: {cause}")]
    Credentials {
        /// The account.
        account: AccountId,
        /// What the provider said.
        cause: String,
    },
}

impl AwsAccess {
    /// Over the accounts of the configuration, with credentials through `proxy`. Nothing is asked for yet.
    pub async fn new(client: HttpClient, accounts: &[Ec2Config], proxy: Option<&Proxy>) -> Self {
        let mut providers = HashMap::new();
        for config in accounts {
            if let Some(provider) = provider(config, proxy).await {
                let account = Account {
                    provider,
                    current: Mutex::default(),
                };
                providers.insert(config.account.clone(), account);
            }
        }
        Self {
            client,
            accounts: providers,
        }
    }

    /// With credentials that a test chose.
    #[cfg(test)]
    pub(crate) fn fixed(account: &AccountId) -> Self {
        let credentials = Credentials::new("AKIAIOSFODNN7EXAMPLE", "secret", None, None, "test");
        let provider = SharedCredentialsProvider::new(credentials);
        let account = (
            account.clone(),
            Account {
                provider,
                current: Mutex::default(),
            },
        );
        let client = HttpClient::plain_only().unwrap_or_else(|e| panic!("{e}"));
        Self {
            client,
            accounts: HashMap::from([account]),
        }
    }

    /// The HTTPS client.
    #[must_use]
    pub fn client(&self) -> &HttpClient {
        &self.client
    }

    /// Credentials that are good for some minutes yet.
    ///
    /// # Errors
    /// [`AccessError`]
    pub async fn credentials(
        &self,
        account: &AccountId,
        now: u64,
    ) -> Result<Credentials, AccessError> {
        let known = self
            .accounts
            .get(account)
            .ok_or_else(|| AccessError::NotConfigured(account.clone()))?;
        // Held while asking: a hundred requests ask once.
        let mut current = known.current.lock().await;
        if let Some(credentials) = current.as_ref().filter(|c| is_good(c, now)) {
            return Ok(credentials.clone());
        }
        let fresh =
            known
                .provider
                .provide_credentials()
                .await
                .map_err(|e| AccessError::Credentials {
                    account: account.clone(),
                    cause: eic_protocol::text::printable(&source_text(&e)),
                })?;
        *current = Some(fresh.clone());
        Ok(fresh)
    }
}

/// EC2's endpoint in this Region, or the configured stand-in, signed for AWS's own name as SDKs do.
///
/// # Errors
/// An override that is no endpoint.
pub fn ec2_endpoint(config: &Ec2Config, region: AwsRegion) -> Result<Endpoint, InvalidEndpoint> {
    let regional = Endpoint::regional("ec2", region);
    match &config.endpoint_override {
        None => Ok(regional),
        Some(origin) => Ok(Endpoint::overridden(origin)?.with_host(regional.host().to_owned())),
    }
}

/// IAM is global: one endpoint for each partition (IAM General Reference, "Service endpoints"); with the Region that its requests are signed for.
///
/// # Errors
/// An override that is no endpoint.
pub fn iam_endpoint(
    partition: Partition,
    overridden: Option<&str>,
) -> Result<(Endpoint, AwsRegion), String> {
    let (host, region) = match partition {
        Partition::Aws => ("iam.amazonaws.com", "us-east-1"),
        Partition::AwsCn => ("iam.cn-north-1.amazonaws.com.cn", "cn-north-1"),
        Partition::AwsUsGov => ("iam.us-gov.amazonaws.com", "us-gov-west-1"),
    };
    let region = region.parse::<AwsRegion>().map_err(|e| e.to_string())?;
    let origin = overridden.map_or_else(|| format!("https://{host}"), str::to_owned);
    let endpoint = Endpoint::overridden(&origin).map_err(|e| e.to_string())?;
    Ok((endpoint.with_host(host.to_owned()), region))
}

fn is_good(credentials: &Credentials, now: u64) -> bool {
    let end = credentials
        .expiry()
        .and_then(|end| end.duration_since(std::time::UNIX_EPOCH).ok());
    end.is_none_or(|end| end.as_secs() > now.saturating_add(RENEW_BEFORE_END))
}

fn source_text(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

async fn provider(config: &Ec2Config, proxy: Option<&Proxy>) -> Option<SharedCredentialsProvider> {
    let region = Region::new(config.regions.first()?.as_str());
    let mut loader = aws_config::defaults(BehaviorVersion::latest()).region(region.clone());
    if let Some(endpoint) = &config.endpoint_override {
        loader = loader.endpoint_url(endpoint.clone());
    }
    if let Some(proxy) = proxy {
        loader = loader.http_client(proxy.sdk_client());
    }
    let own: SdkConfig = loader.load().await;
    match &config.assume_role {
        None => own.credentials_provider(),
        Some(role) => {
            let role = AssumeRoleProvider::builder(role.to_string())
                .session_name("eic-ca")
                .region(region);
            Some(SharedCredentialsProvider::new(
                role.configure(&own).build().await,
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn credentials_are_renewed_before_they_end() {
        let ending = |end| Credentials::new("AKIAIOSFODNN7EXAMPLE", "s", None, end, "test");
        let at = |seconds| Some(UNIX_EPOCH + Duration::from_secs(seconds));
        assert!(!is_good(&ending(at(1_300)), 1_000));
        assert!(is_good(&ending(at(1_301)), 1_000));
        assert!(is_good(&ending(None), 1_000));
    }

    #[tokio::test]
    async fn an_account_that_is_not_configured_is_not_asked_about() {
        let access = AwsAccess::new(HttpClient::plain_only().unwrap(), &[], None).await;
        let account: AccountId = "111122223333".parse().unwrap();
        assert!(matches!(
            access.credentials(&account, 0).await,
            Err(AccessError::NotConfigured(_))
        ));
    }
}
