//! GetConsoleOutput with the text that a test or a host's boot set, where moto has one fixed text.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::Response;
use hyper::body::Bytes;

use crate::standin::answer::{answer, request_id};
use crate::standin::signed_request::SignedRequest;
use crate::standin::{Shared, locked};
use crate::xml::escaped;

/// After moto has judged the caller and found the instance: its console, or nothing printed yet.
pub(crate) fn get_console_output(
    shared: &Shared,
    request: &SignedRequest,
    verdict: Response<Bytes>,
) -> Response<Bytes> {
    if verdict.status() != 200 {
        return verdict;
    }
    let id = request.parameter("InstanceId").unwrap_or_default();
    let output = locked(&shared.console)
        .get(&id)
        .map(|text| format!("<output>{}</output>", STANDARD.encode(text)));
    answer(
        200,
        "text/xml",
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<GetConsoleOutputResponse xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\"><requestId>{}</requestId><instanceId>{}</instanceId><timestamp>{}</timestamp>{}</GetConsoleOutputResponse>",
            request_id(),
            escaped(&id),
            timestamp(shared.clock.now()),
            output.unwrap_or_default(),
        ),
    )
}

fn timestamp(now: u64) -> String {
    let seconds = i64::try_from(now).unwrap_or_default();
    jiff::Timestamp::from_second(seconds)
        .map(|time| time.to_string())
        .unwrap_or_default()
}
