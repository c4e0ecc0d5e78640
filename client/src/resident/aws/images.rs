//! ec2:DescribeImages (EC2 API reference, version 2016-11-15): the names of images, for the accounts that they come
//! with. Asked once for each image; no permission is like an unknown image.

use std::collections::{BTreeSet, HashMap};

use eic_aws::endpoint::Endpoint;
use eic_aws::error::AwsError;
use eic_aws::http_client::HttpClient;
use eic_aws::query::{Element, call};
use eic_aws::sigv4::Scope;
use eic_protocol::os_user::OsUser;

use crate::image_users::user_of_image;

/// Most values of one filter (EC2 API reference, "Filter").
const MAX_VALUES: usize = 200;

/// The accounts of these images, as far as they are known.
pub(super) async fn describe(
    client: &HttpClient,
    endpoint: &Endpoint,
    scope: &Scope<'_>,
    images: &BTreeSet<String>,
) -> Result<HashMap<String, OsUser>, AwsError> {
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let mut parameters = vec![
        pair("Action", "DescribeImages"),
        pair("Version", "2016-11-15"),
        pair("IncludeDeprecated", "true"),
        // A filter, not ids: an image that is gone would fail the whole call.
        pair("Filter.1.Name", "image-id"),
    ];
    for (at, image) in images.iter().take(MAX_VALUES).enumerate() {
        parameters.push((format!("Filter.1.Value.{}", at + 1), image.clone()));
    }
    let answer = call(client, endpoint, scope, &parameters).await?;
    Ok(accounts(&answer))
}

fn accounts(answer: &Element) -> HashMap<String, OsUser> {
    let items = answer.child("imagesSet").into_iter();
    let items = items.flat_map(|set| set.children("item"));
    let accounts = items.filter_map(|item| {
        let user = user_of_image(item.child_text("name")?)?;
        Some((item.child_text("imageId")?.to_owned(), user))
    });
    accounts.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_of_unknown_names_are_left_out() {
        let text = "<R><imagesSet><item><imageId>ami-1</imageId><name>ubuntu/images/x</name></item>\
                    <item><imageId>ami-2</imageId><name>golden</name></item><item><imageId>ami-3</imageId></item></imagesSet></R>";
        let found = accounts(&Element::parse(text).unwrap());
        assert_eq!(found.len(), 1);
        assert_eq!(found["ami-1"].as_str(), "ubuntu");
    }
}
