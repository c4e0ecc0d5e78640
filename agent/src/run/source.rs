//! Where trust documents come from: the CA (long poll), a published folder over HTTPS or in S3, or a local folder.
//! Bytes in, documents out; nothing here believes them.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use eic_protocol::api::trust_bundle::{MAX_RESPONSE, NotTrustBundle, PATH, TrustBundleResponse};
use eic_protocol::instance_id::InstanceId;
use eic_protocol::proof::Audience;
use eic_protocol::trust::envelope::Envelope;

use super::evidence::NoEvidence;
use super::http::{Answer, Client, HttpError};
use super::s3::{Access, Bucket};
use super::settings::Folder;
use crate::config::{Config, InvalidConfig};
use crate::trust_state::MAX_ENVELOPE;

/// The file of roots and bundle in a published folder: an answer of the CA without a host's view.
pub(super) const BUNDLE_FILE: &str = "trust-bundle.json";
/// The folder of host views in a published folder.
pub(super) const HOSTS_FOLDER: &str = "hosts";
/// For everything but the long poll's own wait.
const DEADLINE: Duration = Duration::from_secs(30);

/// A place to fetch from, and what it gave last.
#[derive(Clone, Debug)]
pub(super) struct Source {
    place: Arc<Place>,
    /// The tags of the last answers that were installed, by URL.
    tags: Vec<(String, String)>,
}

#[derive(Debug)]
enum Place {
    Ca(Audience),
    Web(String),
    S3(Bucket),
    Local(PathBuf),
}

/// What a host asks for.
#[derive(Clone, Debug)]
pub(super) struct Question {
    /// This host.
    pub(super) host: InstanceId,
    /// The version of its root.
    pub(super) root: u64,
    /// How long the CA may wait for news.
    pub(super) wait: Duration,
    /// The time, in Unix seconds: requests to S3 are signed for it.
    pub(super) now: u64,
}

/// What came.
#[derive(Debug)]
pub(super) struct Fetched {
    /// Documents; none where they are those that the last answer gave.
    pub(super) documents: Option<TrustBundleResponse>,
    /// The server's clock in Unix seconds, where it tells.
    pub(super) server_time: Option<u64>,
    tags: Vec<(String, String)>,
}

impl Source {
    /// The configured place: `trust_from`, else the CA; none where neither is set.
    ///
    /// # Errors
    /// The metadata service's address is wrong.
    pub(super) fn configured(config: &Config) -> Result<Option<Self>, InvalidConfig> {
        let service = &config.service;
        let place = match (&service.trust_from, &service.ca) {
            (Some(Folder::Web(url)), _) => Place::Web(url.clone()),
            (Some(Folder::S3 { bucket, prefix }), _) => {
                let metadata = config.instance_connect.endpoint()?;
                Place::S3(Bucket::new(bucket, prefix, service, metadata))
            }
            (Some(Folder::Local(path)), _) => Place::Local(path.clone()),
            (None, Some(ca)) => Place::Ca(ca.clone()),
            (None, None) => return Ok(None),
        };
        Ok(Some(Self {
            place: Arc::new(place),
            tags: Vec::new(),
        }))
    }

    /// Whether the place answers when there is news.
    #[must_use]
    pub(super) fn waits(&self) -> bool {
        matches!(*self.place, Place::Ca(_))
    }

    /// Fetches.
    ///
    /// # Errors
    /// [`NotFetched`] names what came instead of documents.
    pub(super) fn fetch(
        &self,
        client: &Client,
        question: &Question,
    ) -> Result<Fetched, NotFetched> {
        match &*self.place {
            Place::Ca(ca) => self.ask_ca(ca, client, question),
            Place::Web(url) => self.ask_web(url, None, client, question),
            Place::S3(bucket) => {
                let access = bucket.open(question.now)?;
                self.ask_web(&access.url(), Some(&access), client, question)
            }
            Place::Local(folder) => from_folder(folder, question),
        }
    }

    /// What was fetched is installed: the next time only something else is wanted.
    pub(super) fn remember(&mut self, fetched: &Fetched) {
        self.tags.clone_from(&fetched.tags);
    }

    /// Something in place is not as it should be: the next time everything is wanted.
    pub(super) fn forget(&mut self) {
        self.tags.clear();
    }

    fn tag(&self, url: &str) -> Option<&str> {
        let found = self.tags.iter().find(|(of, _)| of == url);
        found.map(|(_, tag)| tag.as_str())
    }

    /// The header that says what is known of a URL.
    fn known(&self, url: &str) -> impl Iterator<Item = (&'static str, &str)> {
        self.tag(url).map(|tag| ("if-none-match", tag)).into_iter()
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
        let known: Vec<_> = self.known(&key).collect();
        let answer = client.get(&url, &known, limit(), DEADLINE + question.wait)?;
        let Some(body) = self.news(&answer, &key, None)? else {
            return Ok(self.unchanged(&answer));
        };
        Ok(Fetched {
            documents: Some(TrustBundleResponse::parse(body)?),
            server_time: server_time(&answer),
            tags: answer.etag.map(|tag| (key, tag)).into_iter().collect(),
        })
    }

    /// The body of an answer with news; `None` where there are none.
    fn news<'a>(
        &self,
        answer: &'a Answer,
        url: &str,
        access: Option<&Access>,
    ) -> Result<Option<&'a [u8]>, NotFetched> {
        match answer.status {
            200 => Ok(Some(&answer.body)),
            // Only to somebody who said what he has.
            304 if self.tag(url).is_some() => Ok(None),
            status => {
                let remedy = access.and_then(|access| access.remedy(status));
                Err(match remedy {
                    Some(remedy) => NotFetched::Bucket { status, remedy },
                    None => NotFetched::Status(status),
                })
            }
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
        access: Option<&Access>,
        client: &Client,
        question: &Question,
    ) -> Result<Fetched, NotFetched> {
        let get = |url: &str, known: bool, limit: u64| {
            let signed = access.map(|access| access.headers(url)).unwrap_or_default();
            let signed = signed.iter().map(|(name, value)| (*name, value.as_str()));
            let known = self.known(url).filter(|_| known);
            let headers: Vec<(&str, &str)> = signed.chain(known).collect();
            client.get(url, &headers, limit, DEADLINE)
        };
        let bundle_url = format!("{folder}{BUNDLE_FILE}");
        let view_url = format!("{folder}{HOSTS_FOLDER}/{}.json", question.host);
        let bundle = get(&bundle_url, true, limit())?;
        let mut view = get(&view_url, true, envelope_limit())?;
        if bundle.status == 200 && view.status == 304 {
            // They go together: a view that was refused before may be good with this bundle and its roots.
            view = get(&view_url, false, envelope_limit())?;
        }
        // A host that is new to the CA has no view yet; its bundle counts all the same.
        let view_body = match view.status {
            404 | 403 => None,
            _ => self.news(&view, &view_url, access)?,
        };
        let bundle_body = self.news(&bundle, &bundle_url, access)?;
        let documents = match (bundle_body, view_body) {
            (None, None) => None,
            (Some(bundle), view) => Some(together(bundle, view)?),
            // The view alone is new: the bundle is asked for again, whole, since they go together.
            (None, view) => {
                let whole = get(&bundle_url, false, limit())?;
                let whole = self.news(&whole, "", access)?.unwrap_or_default();
                Some(together(whole, view)?)
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
pub(super) enum NotFetched {
    /// No answer.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The role's credentials, for S3.
    #[error("read the bucket of trust documents")]
    Role(#[from] NoEvidence),
    /// Another answer than documents.
    #[error("fetch trust documents: the server answered {0}")]
    Status(u16),
    /// Another answer of S3's.
    #[error("fetch trust documents: S3 answered {status}; {remedy}")]
    Bucket {
        /// The status code.
        status: u16,
        /// What to do.
        remedy: String,
    },
    /// Not documents.
    #[error("fetch trust documents")]
    Form(#[from] NotTrustBundle),
    /// The thread that asked is no more.
    #[error("fetch trust documents: whoever asked has died")]
    Died,
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
