//! EC2, Instance Connect, Session Manager and STS.

use std::collections::BTreeMap;

use super::{INSTANCE, State};

/// `head` is in lower case.
pub(super) fn answer(head: &str, body: &[u8], state: &mut State) -> (u16, Vec<u8>) {
    let body = std::str::from_utf8(body).unwrap();
    let refused = state.aws_refuses.filter(|(action, _)| {
        let action = action.to_ascii_lowercase();
        head.contains(&action) || body.to_ascii_lowercase().contains(&action)
    });
    if let Some((action, code)) = refused {
        state.aws_asked.push(action);
        return (400, refusal(head, code));
    }
    let target = head.split("x-amz-target: ").nth(1);
    let target = target.map(|rest| rest.split('\r').next().unwrap());
    let text = match target {
        Some("awsec2instanceconnectservice.sendsshpublickey") => push(head, body, state),
        Some("awsec2instanceconnectservice.sendserialconsolesshpublickey") => {
            push_to_console(body, state)
        }
        Some("amazonssm.startsession") => start_session(body, state),
        _ => query(head, body, state),
    };
    (200, text.into_bytes())
}

/// As EC2 and as Instance Connect refuse.
fn refusal(head: &str, code: &str) -> Vec<u8> {
    let text = match head.contains("x-amz-target") {
        true => format!(r#"{{"__type":"{code}","Message":"told by the stand-in"}}"#),
        false => format!(
            "<Response><Errors><Error><Code>{code}</Code><Message>no</Message></Error></Errors></Response>"
        ),
    };
    text.into_bytes()
}

fn access_key(head: &str) -> String {
    let credential = head.split("credential=").nth(1).unwrap_or_default();
    credential.split('/').next().unwrap().to_ascii_uppercase()
}

fn push(head: &str, body: &str, state: &mut State) -> String {
    state.pushed_with.push(access_key(head));
    let fields: BTreeMap<String, String> = serde_json::from_str(body).unwrap();
    let (user, id) = (&fields["InstanceOSUser"], &fields["InstanceId"]);
    let zone = fields.get("AvailabilityZone");
    let region = head.split("credential=").nth(1).unwrap().split('/').nth(2);
    let words = [region, zone.map(String::as_str)].into_iter().flatten();
    state.pushed_in.push(words.collect::<Vec<_>>().join(" "));
    state.pushes.push(format!("{user}@{id}"));
    if let Some(file) = &state.authorized_keys {
        std::fs::write(file, format!("{}\n", fields["SSHPublicKey"])).unwrap();
    }
    r#"{"RequestId":"aws-1","Success":true}"#.to_owned()
}

fn push_to_console(body: &str, state: &mut State) -> String {
    let fields: serde_json::Value = serde_json::from_str(body).unwrap();
    let (port, id) = (&fields["SerialPort"], fields["InstanceId"].as_str());
    state.pushes.push(format!("console {port}@{}", id.unwrap()));
    r#"{"RequestId":"aws-2","Success":true}"#.to_owned()
}

fn start_session(body: &str, state: &mut State) -> String {
    state.sessions_started.push(body.to_owned());
    let answer = state.aws_answers.get("StartSession").cloned();
    answer.unwrap_or_else(|| "{}".to_owned())
}

/// The query protocol: EC2 and STS.
fn query(head: &str, body: &str, state: &mut State) -> String {
    use base64::Engine as _;
    if body.contains("Action=DescribeImages") {
        let name = state.image.unwrap();
        return format!(
            "<R><imagesSet><item><imageId>ami-1</imageId><name>{name}</name></item></imagesSet></R>"
        );
    }
    if body.contains("Action=GetConsoleOutput") {
        let output = base64::engine::general_purpose::STANDARD.encode(&state.console);
        let asked = body.split("InstanceId=").nth(1);
        let id = asked.map_or(INSTANCE, |rest| rest.split('&').next().unwrap());
        return format!("<R><instanceId>{id}</instanceId><output>{output}</output></R>");
    }
    let action = |action: &&&str| body.contains(&format!("Action={action}&"));
    let answered = state.aws_answers.keys().find(action).copied();
    if let Some(action) = answered {
        state.aws_asked.push(action);
        return state.aws_answers[action].clone();
    }
    described(found(head, body, state), state)
}

/// The instances that an id, a filter, else an access key, leads to.
fn found<'s>(head: &str, body: &str, state: &'s State) -> &'s [String] {
    let by_tag = body.contains("Name=tag%3AName");
    let by_id = body.split("InstanceId.1=").nth(1);
    let filter = by_id.or_else(|| body.split("Value.1=").nth(1));
    let filter = filter.map(|rest| rest.split('&').next().unwrap());
    let filtered = filter.and_then(|value| {
        let tagged = state.by_tag.get(value).filter(|_| by_tag);
        tagged.or_else(|| state.by_filter.get(value))
    });
    filtered
        .or_else(|| state.by_key.get(&access_key(head)))
        .unwrap_or(&state.instances)
}

fn described(ids: &[String], state: &State) -> String {
    let (address, network) = (&state.address, &state.network);
    let tag = |(key, value): &(String, String)| {
        format!("<item><key>{key}</key><value>{value}</value></item>")
    };
    let tags: String = state.tags.iter().map(tag).collect();
    let image = state.image.map_or("", |_| "<imageId>ami-1</imageId>");
    let item = |id: &String| {
        format!(
            "<item><instanceId>{id}</instanceId><instanceState><name>running</name></instanceState>\
             <privateIpAddress>{address}</privateIpAddress>{network}{image}<tagSet>{tags}</tagSet></item>"
        )
    };
    let items: String = ids.iter().map(item).collect();
    format!(
        "<R><reservationSet><item><ownerId>123456789012</ownerId><instancesSet>{items}</instancesSet></item></reservationSet></R>"
    )
}
