//! What one host needs from the CA, as files: the root document, its signed host view, and, where its
//! public key is given, a host certificate. For hosts that do not fetch these by themselves.

use std::path::{Path, PathBuf};

use eic_protocol::instance_id::InstanceId;
use eic_protocol::request_id::RequestId;
use eic_protocol::subject_key::{InvalidKey, SubjectKey};
use eic_protocol::trust::host_view::{FleetMembership, HostView, Stage};
use eic_protocol::validity::MAX_HOST_TTL;
use serde_json::json;

use super::files::{self, FileError};
use super::{KeyMaterial, root};
use crate::audit::{AppendError, Event, EventName, Operator, Recorder};
use crate::clock::Clock;
use crate::issuance::{GrantError, HostGrant, IssueError, Issued, issue_host};
use crate::random::{self, NoEntropy};
use crate::signer::document::DocumentError;
use crate::store::{Store, StoreError};

/// After this long a host is told to be out of date, in seconds: a day, since an operator copies these files.
const REFRESH: u64 = 24 * 3600;

/// What is wanted for which host.
#[derive(Clone, Debug)]
pub struct HostViewOrder {
    /// The host.
    pub instance: InstanceId,
    /// Its fleets.
    pub fleets: Vec<FleetMembership>,
    /// How far the rollout is there.
    pub stage: Stage,
    /// Seconds after which no certificate opens the host unless its view was renewed.
    pub hard_stop: Option<u64>,
    /// The host's public key, where it is to get a certificate.
    pub host_key: Option<SubjectKey>,
    /// Where the files go.
    pub folder: PathBuf,
}

/// What was written.
#[derive(Clone, Debug)]
pub struct HostState {
    /// The files.
    pub files: Vec<PathBuf>,
    /// The view's version.
    pub version: u64,
    /// The certificate's serial and request, where there is one.
    pub certificate: Option<(u64, RequestId)>,
}

/// Writes the files. What is signed is recorded before; the certificate is journaled as well, as any other.
///
/// # Errors
/// [`HostStateError`]; each file is whole or not there.
pub async fn host_state(
    keys: &KeyMaterial,
    store: &Store,
    recorder: &Recorder,
    order: &HostViewOrder,
    clock: &Clock,
) -> Result<HostState, HostStateError> {
    files::make_folder(&order.folder)?;
    recorder.append(&event(order)?).await?;
    let register = store.host_register();
    let version = register.next_view(&order.instance, clock.now()).await?;
    let root_file = order.folder.join("root.json");
    root::write(&root_file, &keys.root)?;
    let view_file = order.folder.join("host-view.json");
    write_view(keys, order, version, clock.now(), &view_file)?;
    let mut state = HostState {
        files: vec![root_file, view_file],
        version,
        certificate: None,
    };
    if let Some(key) = &order.host_key {
        let file = order.folder.join("host-cert.pub");
        let issued = issue(keys, (store, recorder), order, key, clock).await?;
        let line = format!("{} {}\n", issued.line(), issued.key_id());
        files::replace(&file, line.as_bytes(), files::PUBLIC)?;
        state.certificate = Some((issued.serial().value(), issued.request_id()));
        state.files.push(file);
    }
    Ok(state)
}

fn event(order: &HostViewOrder) -> Result<Event, NoEntropy> {
    let mut event = Event::of_operator(EventName::SignHostView)?;
    let fleets: Vec<_> = order.fleets.iter().map(|fleet| &fleet.name).collect();
    event.parameters = Some(json!({
        "instanceId": order.instance.as_str(),
        "fleets": fleets,
        "stage": order.stage,
        "hardStopSeconds": order.hard_stop,
    }));
    Ok(event)
}

fn write_view(
    keys: &KeyMaterial,
    order: &HostViewOrder,
    version: u64,
    now: u64,
    file: &Path,
) -> Result<(), HostStateError> {
    let view = HostView {
        version,
        instance: order.instance.clone(),
        fleets: order.fleets.clone(),
        stage: order.stage,
        os_users: Vec::new(),
        root_version: keys.document.version,
        issued: now,
        refresh_after: now.saturating_add(REFRESH),
        hard_stop: order.hard_stop.map(|seconds| now.saturating_add(seconds)),
    };
    let mut text =
        serde_json::to_vec_pretty(&keys.bundle.seal(&view)?).map_err(DocumentError::from)?;
    text.push(b'\n');
    Ok(files::replace(file, &text, files::PUBLIC)?)
}

async fn issue(
    keys: &KeyMaterial,
    (store, recorder): (&Store, &Recorder),
    order: &HostViewOrder,
    key: &SubjectKey,
    clock: &Clock,
) -> Result<Issued, HostStateError> {
    let (request_id, ttl) = (random::request_id()?, MAX_HOST_TTL);
    let grant = HostGrant::by_operator(
        Operator::current(),
        key.clone(),
        order.instance.clone(),
        request_id,
        ttl,
    )?;
    let still_admitted = async {
        let stored = store.host_book().stored(&order.instance).await;
        let blocked = stored.map_err(IssueError::Store)?.blocked;
        (!blocked).then_some(()).ok_or(IssueError::Revoked)
    };
    let ca = &keys.host_ca;
    Ok(issue_host(recorder, ca, &keys.special, grant, clock, still_admitted).await?)
}

/// Reads a host's public key file (`/etc/ssh/ssh_host_ed25519_key.pub`).
///
/// # Errors
/// [`HostStateError::HostKey`]
pub fn read_host_key(path: &Path) -> Result<SubjectKey, HostStateError> {
    let text = std::fs::read_to_string(path);
    let text = text.map_err(|cause| HostStateError::HostKeyFile {
        path: path.to_owned(),
        cause,
    })?;
    let line = text
        .lines()
        .find(|line| !line.trim().is_empty() && !line.starts_with('#'))
        .unwrap_or_default();
    line.parse().map_err(|flaw| HostStateError::HostKey {
        path: path.to_owned(),
        flaw,
    })
}

/// Why a host's files were not written.
#[derive(Debug, thiserror::Error)]
pub enum HostStateError {
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// The host's key file.
    #[error("read the host key `{path}`: {cause}")]
    HostKeyFile {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// The host's key.
    #[error("use the host key `{path}`: {flaw}")]
    HostKey {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        flaw: InvalidKey,
    },
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The root document.
    #[error(transparent)]
    Root(#[from] super::RootError),
    /// The record.
    #[error(transparent)]
    Record(#[from] AppendError),
    /// The view was not signed.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// The certificate was not granted.
    #[error(transparent)]
    Grant(#[from] GrantError),
    /// The certificate was not issued.
    #[error(transparent)]
    Issue(#[from] IssueError),
    /// No random bytes.
    #[error(transparent)]
    Entropy(#[from] NoEntropy),
}
