//! `[publish]`: where bundle and host views are put for hosts that do not ask the service itself.

use std::path::PathBuf;

use eic_aws::s3::S3Folder;
use eic_protocol::aws_region::AwsRegion;

use super::document::Section;
use super::endpoint;

/// `[publish]`
#[derive(Clone, Debug)]
pub struct PublishConfig {
    /// Where to.
    pub to: PublishTo,
    /// How often it is looked whether a host's view has changed. Seconds.
    pub every_seconds: u64,
}

/// Where to.
#[derive(Clone, Debug)]
pub enum PublishTo {
    /// A folder of this machine.
    Folder(PathBuf),
    /// A prefix of a bucket.
    S3 {
        /// The prefix.
        folder: S3Folder,
        /// The bucket's Region.
        region: AwsRegion,
        /// Another endpoint than the bucket's own; plain HTTP on loopback only.
        endpoint: Option<String>,
    },
}

/// Looks for changed views, unless the configuration says otherwise. Seconds.
const EVERY: u64 = 60;

pub(super) fn read(section: &Section<'_>) -> Option<PublishConfig> {
    let every = section.number("every_seconds", 1..=86_400);
    let endpoint = endpoint::read(section, "endpoint");
    let region = section.parsed::<AwsRegion>("region");
    let s3 = section
        .string("to")
        .is_some_and(|to| to.starts_with("s3://"));
    let to = if s3 {
        if !section.has("region") {
            section.mistake(
                "region",
                "is missing; write `region = \"eu-west-1\"`, the bucket's",
            );
        }
        section
            .parsed::<S3Folder>("to")
            .zip(region)
            .map(|(folder, region)| PublishTo::S3 {
                folder,
                region,
                endpoint,
            })
    } else {
        section
            .required_path("to", "to = \"s3://bucket/prefix\"")
            .map(PublishTo::Folder)
    };
    section.refuse_unknown();
    Some(PublishConfig {
        to: to?,
        every_seconds: every.unwrap_or(EVERY),
    })
}
