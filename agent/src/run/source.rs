//! Where trust documents come from: the CA (long poll), a published folder over HTTPS, or a local folder.
//! Bytes in, documents out; nothing here believes them.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use eic_protocol::api::trust_bundle::{MAX_RESPONSE, NotTrustBundle, PATH, TrustBundleResponse};
use eic_protocol::instance_id::InstanceId;
use eic_protocol::proof::Audience;
use eic_protocol::trust::envelope::Envelope;

use super::http::{Answer, Client, HttpError};
use super::settings::{Folder, Service};
use crate::trust_state::MAX_ENVELOPE;

/// The file of roots and bundle in a published folder: an answer of the CA without a host's view.
pub const BUNDLE_FILE: &str = "trust-bundle.json";
/// The folder of host views in a published folder.
pub const HOSTS_FOLDER: &str = "hosts";
/// For everything but the long poll's own wait.
const DEADLINE: Duration = Duration::from_secs(30);

/// A place to fetch from, and what it gave last.
#[derive(Debug)]
pub struct Source {
    place: Place,
    /// The tags of the last answers that were installed, by URL.
    tags: Vec<(String, String)>,
}

#[derive(Debug)]
enum Place {
    Ca(Audience),
    Web(String),
    Local(PathBuf),
}

/// What a host asks for.
#[derive(Clone, Debug)]
pub struct Question {
    /// This host.
    pub host: InstanceId,
    /// The version of its root.
    pub root: u64,
    /// How long the CA may wait for news.
    pub wait: Duration,
}

/// What came.
#[derive(Debug)]
pub struct Fetched {
    /// Documents; none where they are those that the last answer gave.
    pub documents: Option<TrustBundleResponse>,
    /// The server's clock in Unix seconds, where it tells.
    pub server_time: Option<u64>,
    tags: Vec<(String, String)>,
}

impl Source {
    /// The configured place: `trust_from`, else the CA; none where neither is set.
    #[must_use]
    pub fn configured(service: &Service) -> Option<Self> {
        let place = match (&service.trust_from, &service.ca) {
            (Some(Folder::Web(url)), _) => Place::Web(url.clone()),
            (Some(Folder::Local(path)), _) => Place::Local(path.clone()),
            (None, Some(ca)) => Place::Ca(ca.clone()),
            (None, None) => return None,
        };
        Some(Self {
            place,
            tags: Vec::new(),
        })
    }

    /// Whether the place answers when there is news.
    #[must_use]
    pub fn waits(&self) -> bool {
        matches!(self.place, Place::Ca(_))
    }

    /// Fetches.
    ///
    /// # Errors
    /// [`NotFetched`] names what came instead of documents.
    pub fn fetch(&self, client: &Client, question: &Question) -> Result<Fetched, NotFetched> {
        match &self.place {
            Place::Ca(ca) => self.ask_ca(ca, client, question),
            Place::Web(url) => self.ask_web(url, client, question),
            Place::Local(folder) => from_folder(folder, question),
        }
    }

    /// What was fetched is installed: the next time only something else is wanted.
    pub fn remember(&mut self, fetched: &Fetched) {
        self.tags.clone_from(&fetched.tags);
    }

    /// Something in place is not as it should be: the next time everything is wanted.
    pub fn forget(&mut self) {
        self.tags.clear();
    }

    fn tag(&self, url: &str) -> Option<&str> {
        let found = self.tags.iter().find(|(of, _)| of == url);
        found.map(|(_, tag)| tag.as_str())
    }

    fn ask_ca(
        &self,
        ca: &Audience,
        client: &Client,
        question: &Question,
    ) -> Result<Fetched, NotFetched> {
        let (root, host) = (question.root, &question.host);
        let key = format!("{ca}{PATH}?root={root}&host={host}");
        let url = format!("{key}&wait={}", question.wait.as_secs());
        let answer = client.get(&url, self.tag(&key), limit(), DEADLINE + question.wait)?;
        let Some(body) = self.news(&answer, &key)? else {
            return Ok(self.unchanged(&answer));
        };
        Ok(Fetched {
            documents: Some(TrustBundleResponse::parse(body)?),
            server_time: server_time(&answer),
            tags: answer.etag.map(|tag| (key, tag)).into_iter().collect(),
        })
    }

    /// The body of an answer with news; `None` where there are none.
    fn news<'a>(&self, answer: &'a Answer, url: &str) -> Result<Option<&'a [u8]>, NotFetched> {
        match answer.status {
            200 => Ok(Some(&answer.body)),
            // Only to somebody who said what he has.
            304 if self.tag(url).is_some() => Ok(None),
            status => Err(NotFetched::Status(status)),
        }
    }

    fn unchanged(&self, answer: &Answer) -> Fetched {
        Fetched {
            documents: None,
            server_time: server_time(answer),
            tags: self.tags.clone(),
        }
    }

    fn ask_web(
        &self,
        folder: &str,
        client: &Client,
        question: &Question,
    ) -> Result<Fetched, NotFetched> {
        let bundle_url = format!("{folder}{BUNDLE_FILE}");
        let view_url = format!("{folder}{HOSTS_FOLDER}/{}.json", question.host);
        let (bundle_tag, view_tag) = (self.tag(&bundle_url), self.tag(&view_url));
        let bundle = client.get(&bundle_url, bundle_tag, limit(), DEADLINE)?;
        let view = client.get(&view_url, view_tag, envelope_limit(), DEADLINE)?;
        // A host that is new to the CA has no view yet; its bundle counts all the same.
        let view_body = match view.status {
            404 | 403 => None,
            _ => self.news(&view, &view_url)?,
        };
        let bundle_body = self.news(&bundle, &bundle_url)?;
        let documents = match (bundle_body, view_body) {
            (None, None) => None,
            (Some(bundle), view) => Some(together(bundle, view)?),
            // The view alone is new: the bundle is asked for again, whole, since they go together.
            (None, view) => {
                let whole = client.get(&bundle_url, None, limit(), DEADLINE)?;
                Some(together(self.news(&whole, "")?.unwrap_or_default(), view)?)
            }
        };
        let tags = [(bundle_url, bundle.etag.clone()), (view_url, view.etag)];
        Ok(Fetched {
            documents,
            server_time: server_time(&bundle),
            tags: tags
                .into_iter()
                .filter_map(|(url, tag)| Some((url, tag?)))
                .collect(),
        })
    }
}

fn limit() -> u64 {
    u64::try_from(MAX_RESPONSE).unwrap_or(u64::MAX)
}

fn envelope_limit() -> u64 {
    u64::try_from(MAX_ENVELOPE).unwrap_or(u64::MAX)
}

fn server_time(answer: &Answer) -> Option<u64> {
    crate::calendar::http_date(answer.date.as_deref()?)
}

fn together(bundle: &[u8], view: Option<&[u8]>) -> Result<TrustBundleResponse, NotFetched> {
    let mut response = TrustBundleResponse::parse(bundle)?;
    if let Some(view) = view {
        let envelope: Envelope = serde_json::from_slice(view).map_err(|_| NotFetched::View)?;
        response.view = Some(envelope);
    }
    Ok(response)
}

fn from_folder(folder: &Path, question: &Question) -> Result<Fetched, NotFetched> {
    let bundle = read(&folder.join(BUNDLE_FILE), MAX_RESPONSE)?;
    let view = folder
        .join(HOSTS_FOLDER)
        .join(format!("{}.json", question.host));
    let view = match read(&view, MAX_ENVELOPE) {
        Err(NotFetched::File { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            None
        }
        other => Some(other?),
    };
    Ok(Fetched {
        documents: Some(together(&bundle, view.as_deref())?),
        server_time: None,
        tags: Vec::new(),
    })
}

/// Anybody's folder: only signatures decide. Size and kind are bounded.
fn read(path: &Path, cap: usize) -> Result<Vec<u8>, NotFetched> {
    use rustix::fs::{Mode, OFlags};
    let failed = |source: std::io::Error| NotFetched::File {
        path: path.to_path_buf(),
        source,
    };
    // NONBLOCK: a FIFO that was put there must not hold the service up.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let opened = rustix::fs::open(path, flags, Mode::empty()).map_err(|e| failed(e.into()))?;
    let file = std::fs::File::from(opened);
    if !file.metadata().map_err(failed)?.is_file() {
        return Err(failed(std::io::ErrorKind::InvalidInput.into()));
    }
    let mut bytes = Vec::new();
    let limit = u64::try_from(cap).unwrap_or(u64::MAX).saturating_add(1);
    file.take(limit).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() > cap {
        return Err(NotTrustBundle::TooLarge.into());
    }
    Ok(bytes)
}

/// Why no documents came.
#[derive(Debug, thiserror::Error)]
pub enum NotFetched {
    /// No answer.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// Another answer than documents.
    #[error("fetch trust documents: the server answered {0}")]
    Status(u16),
    /// Not documents.
    #[error("fetch trust documents")]
    Form(#[from] NotTrustBundle),
    /// Not a view.
    #[error("fetch trust documents: the file of this host's view holds no signed document")]
    View,
    /// A file of a local folder.
    #[error("fetch trust documents: read `{}`", .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
}
