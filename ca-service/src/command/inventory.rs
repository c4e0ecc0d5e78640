//! One host of the configured inventory, as the service would see it.

use std::sync::Arc;

use eic_aws::endpoint::InvalidEndpoint;
use eic_aws::http_client::{HttpClient, HttpError, Roots};
use eic_protocol::instance_id::InstanceId;

use crate::aws_access::AwsAccess;
use crate::clock::Clock;
use crate::config::{Config, ConfigError};
use crate::inventory::ec2::Ec2Inventory;
use crate::inventory::static_file::StaticInventory;
use crate::inventory::{InstanceRecord, Inventory, InventoryError};
use crate::store::HostsSeen;

/// The host, with facts of this moment; none where no source knows it.
pub(super) async fn find_host(
    config: &Config,
    id: &InstanceId,
) -> Result<Option<Arc<InstanceRecord>>, LookUpError> {
    let file = config
        .inventory
        .static_file
        .as_deref()
        .map(StaticInventory::open)
        .transpose()?;
    let ec2 = match config.inventory.ec2.as_slice() {
        [] => None,
        accounts => {
            let access = AwsAccess::new(HttpClient::new(Roots::System)?, accounts).await;
            let rules = config.inventory.enrolment.clone();
            Some(Ec2Inventory::new(access.into(), accounts, rules)?)
        }
    };
    Ok(Inventory::new(file, ec2, HostsSeen::default())
        .instance(id, "operator", Clock::system().now())
        .await?)
}

/// Why it is not known whether the host is there.
#[derive(Debug, thiserror::Error)]
pub enum LookUpError {
    /// The inventory file.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The look-up.
    #[error(transparent)]
    Inventory(#[from] InventoryError),
    /// The HTTPS client.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// An endpoint override.
    #[error(transparent)]
    Endpoint(#[from] InvalidEndpoint),
}
