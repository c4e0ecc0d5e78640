//! `eic-login endpoint`: what is refused, and what is asked of EC2.

use crate::scene::{Scene, output, said};
use crate::service::ENDPOINT;

#[tokio::test]
async fn an_endpoint_is_not_removed_without_a_word() {
    let scene = Scene::new().await;
    let out = output(scene.eic(&["endpoint", "delete", ENDPOINT])).await;
    assert_eq!(out.status.code(), Some(2), "{}", said(&out));
    assert!(said(&out).contains("nothing was removed"), "{}", said(&out));
    assert!(scene.world.state().aws_asked.is_empty());
}

#[tokio::test]
async fn an_answer_to_a_dry_run_that_is_no_refusal_is_no_plan() {
    let scene = Scene::new().await;
    let made = "<R><instanceConnectEndpoint/></R>".to_owned();
    scene
        .world
        .state()
        .aws_answers
        .insert("CreateInstanceConnectEndpoint", made);
    let out = output(scene.eic(&["endpoint", "plan", "--subnet-id", "subnet-1"])).await;
    assert!(
        !out.status.success() && said(&out).contains("a dry run that was none"),
        "{}",
        said(&out)
    );
}

#[tokio::test]
async fn endpoints_are_listed_made_and_removed() {
    let scene = Scene::new().await;
    let one = format!(
        "<R><instanceConnectEndpoint><instanceConnectEndpointId>{ENDPOINT}</instanceConnectEndpointId>\
         <state>create-in-progress</state><vpcId>vpc-1</vpcId><subnetId>subnet-1</subnetId></instanceConnectEndpoint></R>"
    );
    for action in [
        "CreateInstanceConnectEndpoint",
        "DeleteInstanceConnectEndpoint",
    ] {
        scene.world.state().aws_answers.insert(action, one.clone());
    }
    for (args, state) in [
        (&["endpoint", "status"][..], "create-complete"),
        (
            &["endpoint", "create", "--subnet-id", "subnet-1"],
            "create-in-progress",
        ),
        (
            &["endpoint", "delete", ENDPOINT, "--yes"],
            "create-in-progress",
        ),
    ] {
        let out = output(scene.eic(args)).await;
        assert!(out.status.success(), "{args:?}: {}", said(&out));
        let told = said(&out);
        assert!(
            told.contains(ENDPOINT) && told.contains(state),
            "{args:?}: {told}"
        );
    }
    let asked = scene.world.state().aws_asked.clone();
    assert_eq!(
        asked,
        [
            "DescribeInstanceConnectEndpoints",
            "CreateInstanceConnectEndpoint",
            "DeleteInstanceConnectEndpoint"
        ]
    );
}
