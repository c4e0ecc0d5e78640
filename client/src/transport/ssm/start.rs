//! ssm:StartSession (Systems Manager API reference, 2014-11-06) with the document `AWS-StartSSHSession`, and the
//! signature for the websocket that it names.

use eic_aws::endpoint::Endpoint;
use eic_aws::error::AwsError;
use eic_aws::http_client::HttpClient;
use eic_aws::json_call;
use eic_aws::proxy::Proxy;
use eic_aws::sigv4::{Scope, sign_request};
use eic_protocol::aws_region::AwsRegion;
use eic_protocol::instance_id::InstanceId;
use eic_protocol::secret::Secret;
use eic_protocol::text::printable;
use http::Request;
use serde::{Deserialize, Serialize};

use super::plugin::PluginSession;
use crate::credentials::Selection;
use crate::host_name::HostName;
use crate::transport::endpoint::DnsName;

/// The version of the published plugin whose protocol is spoken; agents decide by it what they may send.
pub(super) const CLIENT_VERSION: &str = "1.2.0.0";
const TARGET: &str = "AmazonSSM.StartSession";
const DOCUMENT: &str = "AWS-StartSSHSession";

/// A session to a host's port.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SessionAsk {
    /// Whose credentials.
    pub selection: Selection,
    /// The host.
    pub host: HostName,
    /// The port there.
    pub port: u16,
    /// Whether AWS's plugin will speak its data channel, rather than this program.
    pub by_plugin: bool,
}

/// Who speaks the data channel of sessions: `ssm` of a `[[host]]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SessionBy {
    /// This program; the installed session-manager-plugin where a session asks for what only that can do.
    #[default]
    Auto,
    /// This program alone.
    Native,
    /// The installed session-manager-plugin alone.
    Plugin,
}

/// A session that was started.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SessionOpening {
    /// Its id.
    pub id: String,
    /// Where its websocket is.
    pub host: DnsName,
    /// Path and query there.
    pub path: Secret<String>,
    /// Headers that sign the request for it.
    pub headers: Vec<(String, Secret<String>)>,
    /// What opens the data channel.
    pub token: Secret<String>,
    /// The configured proxy; none: what the environment names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<Proxy>,
}

/// What StartSession answers.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Started {
    session_id: String,
    token_value: Secret<String>,
    stream_url: Secret<String>,
}

impl Started {
    /// For this program's own data channel: the websocket's address signed.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn opening(self, scope: &Scope<'_>) -> Result<SessionOpening, StartError> {
        opening(self, scope)
    }

    /// For the plugin, which signs by itself.
    ///
    /// # Errors
    /// [`StartError::Place`].
    pub fn for_plugin(
        self,
        host: Host<'_>,
        endpoint: &Endpoint,
        selection: &Selection,
    ) -> Result<PluginSession, StartError> {
        place(self.stream_url.reveal(), host.region)?;
        Ok(PluginSession {
            id: printable(&self.session_id),
            url: self.stream_url,
            token: self.token_value,
            region: host.region,
            target: host.id.clone(),
            port: host.port,
            endpoint: endpoint.url(""),
            selection: selection.clone(),
            proxy: None,
        })
    }
}

/// A port of a host.
#[derive(Clone, Copy, Debug)]
pub struct Host<'a> {
    /// Its id.
    pub id: &'a InstanceId,
    /// Its Region.
    pub region: AwsRegion,
    /// The port there.
    pub port: u16,
}

/// Starts a session.
///
/// # Errors
/// [`StartError`].
pub async fn start(
    client: &HttpClient,
    endpoint: &Endpoint,
    scope: &Scope<'_>,
    host: Host<'_>,
) -> Result<Started, StartError> {
    let started = json_call::call(client, endpoint, scope, TARGET, &parameters(host)).await;
    started.map_err(refusal)
}

/// What StartSession is asked for.
pub(super) fn parameters(host: Host<'_>) -> serde_json::Value {
    serde_json::json!({
        "Target": host.id.as_str(),
        "DocumentName": DOCUMENT,
        "Parameters": { "portNumber": [host.port.to_string()] },
    })
}

fn opening(started: Started, scope: &Scope<'_>) -> Result<SessionOpening, StartError> {
    let (host, path) = place(started.stream_url.reveal(), scope.region)?;
    let mut request = Request::get(format!("https://{host}{path}"))
        .header("host", host.as_str())
        .body(Vec::new())
        .map_err(|e| AwsError::Signing(e.to_string()))?;
    sign_request(
        &Scope {
            service: "ssmmessages",
            ..scope.clone()
        },
        &mut request,
    )?;
    let headers = request.headers().iter().filter(|(name, _)| *name != "host");
    let headers = headers.filter_map(|(name, value)| {
        Some((
            name.to_string(),
            Secret::new(value.to_str().ok()?.to_owned()),
        ))
    });
    Ok(SessionOpening {
        id: printable(&started.session_id),
        headers: headers.collect(),
        host,
        path: Secret::new(path),
        token: started.token_value,
        proxy: None,
    })
}

/// Host and path of the websocket: a token for it goes to the Region's own service only.
fn place(url: &str, region: AwsRegion) -> Result<(DnsName, String), StartError> {
    let rest = url.strip_prefix("wss://").ok_or(StartError::Place)?;
    let at = rest.find('/').ok_or(StartError::Place)?;
    let (host, path) = rest.split_at(at);
    let host: DnsName = host.parse().map_err(|_| StartError::Place)?;
    let plain = path.bytes().all(|b| b.is_ascii_graphic());
    let ours = host.as_str().starts_with("ssmmessages")
        && host.as_str().ends_with(&format!(".{}", region.domain()));
    let named = host
        .as_str()
        .split('.')
        .any(|label| label == region.as_str());
    if plain && ours && named {
        Ok((host, path.to_owned()))
    } else {
        Err(StartError::Place)
    }
}

fn refusal(error: AwsError) -> StartError {
    match error.code() {
        Some("TargetNotConnected") => StartError::NotConnected,
        _ => StartError::Aws(error),
    }
}

/// No session.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// AWS.
    #[error(transparent)]
    Aws(#[from] AwsError),
    /// No agent.
    #[error(
        "the host's Session Manager agent is not connected: is it running, and does its role allow it?"
    )]
    NotConnected,
    /// Another place.
    #[error(
        "AWS names a place for the session that is not of its Region's service: nothing is sent there"
    )]
    Place,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_goes_to_the_regions_own_service_only() {
        let region: AwsRegion = "eu-west-1".parse().unwrap();
        let good = "wss://ssmmessages.eu-west-1.amazonaws.com/v1/data-channel/s-1?role=publish_subscribe&cell-number=AAE==";
        assert!(
            place(good, region)
                .unwrap()
                .1
                .starts_with("/v1/data-channel/")
        );
        for bad in [
            good.replace("wss://", "ws://"),
            good.replace("amazonaws.com", "amazonaws.com.evil.example"),
            good.replace("amazonaws.com", "evilamazonaws.com"),
            good.replace("eu-west-1", "us-east-1"),
            good.replace("ssmmessages.", "x@ssmmessages."),
            good.replace("?role", "\r\nX: y?role"),
            good.replace(".com/", ".com:8443/"),
            "wss://ssmmessages.eu-west-1.amazonaws.com".to_owned(),
        ] {
            assert!(place(&bad, region).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_host_without_its_agent_is_told_as_such() {
        let refused = |code: &str| {
            refusal(AwsError::Service {
                status: 400,
                code: code.to_owned(),
                message: "no".to_owned(),
            })
            .to_string()
        };
        assert!(refused("TargetNotConnected").contains("agent is not connected"));
        assert!(refused("AccessDeniedException").contains("AccessDeniedException: no"));
    }
}
