//! `[outbound]`: the proxy that the service's own HTTPS goes through. One of the environment never counts (D19).

use eic_aws::proxy::{InvalidProxy, Proxy};
use eic_protocol::secret::Secret;

use super::document::Section;

pub(super) fn read(section: &Section<'_>) -> Option<Proxy> {
    if !section.has("proxy") {
        section.mistake(
            "proxy",
            "is missing; write for example `proxy = \"http://proxy.internal:3128\"`",
        );
    }
    let url = section.string("proxy").map(Secret::new);
    let except: Vec<String> = section.list("no_proxy").unwrap_or_default();
    section.refuse_unknown();
    let read = Proxy::new(url?.reveal(), &except);
    read.map_err(|invalid| {
        let key = match invalid {
            InvalidProxy::Url => "proxy",
            InvalidProxy::Exception(_) => "no_proxy",
        };
        section.mistake(key, invalid.to_string());
    })
    .ok()
}
