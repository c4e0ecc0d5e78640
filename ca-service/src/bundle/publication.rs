//! The bundle and the hosts' views as files, in a folder or in S3, for hosts that fetch them from there or from a
//! web server in front of it. Each file is whole or not there.
//!
//! Roots and bundle are one file, so that no reader sees one without the other. It is put first: a view may need
//! the root of the bundle beside it, but no bundle needs a view, and revocations wait for nothing.

use std::path::{Path, PathBuf};

use aws_config::{BehaviorVersion, Region};
use aws_credential_types::Credentials;
use aws_credential_types::provider::{ProvideCredentials as _, SharedCredentialsProvider};
use eic_aws::endpoint::InvalidEndpoint;
use eic_aws::error::AwsError;
use eic_aws::http_client::{HttpClient, HttpError, Roots};
use eic_aws::proxy::Proxy;
use eic_aws::s3::{S3Endpoint, S3Folder, put_object};
use eic_aws::sigv4::Scope;
use eic_protocol::aws_region::AwsRegion;
use eic_protocol::instance_id::InstanceId;
use eic_protocol::text::printable;

use crate::config::publish::PublishTo;
use crate::keys::FileError;
use crate::keys::files;

/// Roots and bundle, as the CA answers them without a host.
pub const BUNDLE_FILE: &str = "trust-bundle.json";
/// Folder of the views, `<instance>.json` each.
pub const HOSTS_FOLDER: &str = "hosts";

/// The name of a host's view.
#[must_use]
pub fn view_name(host: &InstanceId) -> String {
    format!("{HOSTS_FOLDER}/{host}.json")
}

/// Where files are put.
pub enum Destination {
    /// A folder of this machine.
    Folder(PathBuf),
    /// A prefix of a bucket.
    S3(Box<Bucket>),
}

/// A prefix of a bucket, and whose credentials write there.
pub struct Bucket {
    client: HttpClient,
    endpoint: S3Endpoint,
    folder: S3Folder,
    region: AwsRegion,
    provider: SharedCredentialsProvider,
}

/// One publication: credentials are asked for once.
pub enum Round<'a> {
    /// Into a folder.
    Folder(&'a Path),
    /// Into a bucket.
    S3(&'a Bucket, Box<Credentials>),
}

impl Destination {
    /// With the credentials of this machine (environment, profile, container, instance), through `proxy`.
    ///
    /// # Errors
    /// [`PublicationError`]
    pub async fn open(to: &PublishTo, proxy: Option<&Proxy>) -> Result<Self, PublicationError> {
        match to {
            PublishTo::Folder(folder) => Ok(Self::Folder(folder.clone())),
            PublishTo::S3 {
                folder,
                region,
                endpoint,
            } => {
                let endpoint = endpoint.as_deref();
                let bucket = Bucket::open(folder.clone(), *region, endpoint, proxy).await?;
                Ok(Self::S3(Box::new(bucket)))
            }
        }
    }

    /// Begins a publication.
    ///
    /// # Errors
    /// [`PublicationError`]
    pub async fn begin(&self) -> Result<Round<'_>, PublicationError> {
        match self {
            Self::Folder(folder) => {
                files::make_folder(&folder.join(HOSTS_FOLDER))?;
                Ok(Round::Folder(folder))
            }
            Self::S3(bucket) => {
                let credentials = bucket.provider.provide_credentials().await;
                let credentials = credentials
                    .map_err(|e| PublicationError::Credentials(printable(&e.to_string())))?;
                Ok(Round::S3(bucket, Box::new(credentials)))
            }
        }
    }
}

impl std::fmt::Display for Destination {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Folder(folder) => write!(f, "{}", folder.display()),
            Self::S3(bucket) => bucket.folder.fmt(f),
        }
    }
}

impl Bucket {
    async fn open(
        folder: S3Folder,
        region: AwsRegion,
        endpoint: Option<&str>,
        proxy: Option<&Proxy>,
    ) -> Result<Self, PublicationError> {
        let mut loader =
            aws_config::defaults(BehaviorVersion::latest()).region(Region::new(region.as_str()));
        if let Some(proxy) = proxy {
            loader = loader.http_client(proxy.sdk_client());
        }
        let shared = loader.load().await;
        let provider = shared
            .credentials_provider()
            .ok_or_else(|| PublicationError::Credentials("there is no provider".to_owned()))?;
        let plain = endpoint.is_some_and(|origin| origin.starts_with("http://"));
        let client = if plain {
            HttpClient::plain_only()?
        } else {
            HttpClient::new(Roots::System, proxy)?
        };
        Ok(Self {
            client,
            endpoint: S3Endpoint::of(&folder, region, endpoint)?,
            folder,
            region,
            provider,
        })
    }
}

impl Round<'_> {
    /// Puts one file in place of what was there. `now` is in Unix seconds: S3 takes no signature that is old, and
    /// thousands of files take their time.
    ///
    /// # Errors
    /// [`PublicationError`]; then the old one is there still.
    pub async fn put(&self, name: &str, bytes: Vec<u8>, now: u64) -> Result<(), PublicationError> {
        match self {
            Self::Folder(folder) => {
                let file = folder.join(name);
                // Files are synced: not on a thread that serves requests.
                let written = tokio::task::spawn_blocking(move || {
                    files::replace(&file, &bytes, files::PUBLIC)
                });
                Ok(written.await.map_err(|_| PublicationError::Ended)??)
            }
            Self::S3(bucket, credentials) => {
                let scope = Scope {
                    credentials,
                    region: bucket.region,
                    service: "s3",
                    now,
                };
                let at = (&bucket.folder, name);
                let put = put_object(&bucket.client, &bucket.endpoint, &scope, at, bytes).await;
                put.map_err(|cause| PublicationError::Put {
                    to: bucket.folder.to_string(),
                    name: name.to_owned(),
                    cause: Box::new(cause),
                })
            }
        }
    }
}

/// What cannot be published.
#[derive(Debug, thiserror::Error)]
pub enum PublicationError {
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// A document.
    #[error("write the bundle: {0}")]
    Json(#[from] serde_json::Error),
    /// No credentials.
    #[error("get credentials for S3: {0}")]
    Credentials(String),
    /// No HTTPS client.
    #[error("publish to S3: {0}")]
    Http(#[from] HttpError),
    /// An endpoint override.
    #[error("publish to S3: {0}")]
    Endpoint(#[from] InvalidEndpoint),
    /// S3.
    #[error("put `{name}` into `{to}`: {cause}")]
    Put {
        /// The bucket and prefix.
        to: String,
        /// Below the prefix.
        name: String,
        /// Why.
        cause: Box<AwsError>,
    },
    /// The process ends.
    #[error("write a file: the process ends")]
    Ended,
}

#[cfg(test)]
mod tests;
