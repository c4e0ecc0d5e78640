//! What an enrolled host is told of itself, where EC2 is what knows it.

use eic_protocol::trust::host_view::Stage;

use super::aws::{HOST, HostWorld};
use super::requests::Ask;
use crate::client::Client;
use crate::trust_bundle::{state_of, with_view};

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_a_listing_lacks_is_as_strict_as_its_tags_say() {
    let world = HostWorld::new("evidence").await;
    world.aws.lock().unwrap().unlisted = true;
    let host = Client::new(1);
    world.certified(&world.with_document(&Ask::of(&host))).await;
    let response = with_view(&world.world, &format!("?host={HOST}")).await;
    let state = state_of(&world.world, HOST, &response);
    assert_eq!(
        state.view().unwrap().document.stage,
        Stage::CertificatesOnly
    );
}
