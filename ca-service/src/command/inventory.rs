//! One host of the configured inventory, as the service would see it.

use std::sync::Arc;

use eic_aws::http_client::HttpError;
use eic_protocol::instance_id::InstanceId;

use crate::app::{StartError, access, inventory};
use crate::clock::Clock;
use crate::config::Config;
use crate::inventory::{InstanceRecord, InventoryError};
use crate::store::HostsSeen;

/// The host, with facts of this moment; none where no source knows it.
pub(super) async fn find_host(
    config: &Config,
    id: &InstanceId,
) -> Result<Option<Arc<InstanceRecord>>, LookUpError> {
    let access = access(config).await?;
    let sources = inventory(config, Arc::new(access), HostsSeen::default())?;
    let now = Clock::system().now();
    Ok(sources.instance(id, "operator", now).await?)
}

/// Why it is not known whether the host is there.
#[derive(Debug, thiserror::Error)]
pub enum LookUpError {
    /// The inventory's sources.
    #[error(transparent)]
    Sources(#[from] StartError),
    /// The look-up.
    #[error(transparent)]
    Inventory(#[from] InventoryError),
    /// The HTTPS client.
    #[error(transparent)]
    Http(#[from] HttpError),
}
