//! The trust task: fetch, verify as the unprivileged service, have the helper verify and install.
//! What is refused changes nothing and is told with its reason.
//!
//! The CA answers when there is news: it is asked on a thread of its own, for the other tasks are not kept waiting.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use eic_protocol::trust::bundle::Freshness;
use eic_protocol::trust::state::TrustState;

use super::helper_client::{Helper, NoHelp};
use super::http::Client;
use super::source::{Fetched, NotFetched, Question, Source};
use crate::config::Config;
use crate::helper::FILES;
use crate::helper::request::{Answer, Offer, Request, TrustAnswer};
use crate::trust_state::Identity;
use crate::trust_store::{self, StoreError, Stored};
use crate::trusted_file::Trusted;

/// What one round did.
#[derive(Debug)]
pub(super) struct Round {
    /// What is in place, where the helper was asked.
    pub(super) installed: Option<TrustAnswer>,
    /// The server's clock less nothing: Unix seconds at the answer.
    pub(super) server_time: Option<u64>,
    /// Whether something new was taken.
    pub(super) news: bool,
    /// Why something that is offered is not taken: for as long as nothing else is offered.
    pub(super) refused: Option<String>,
}

/// The task with what it keeps between rounds.
#[derive(Debug)]
pub(super) struct Trust {
    source: Source,
    /// Whether what is in place may differ from the documents: at the start, and after a failed installation.
    repair_due: bool,
    /// What was refused, and when.
    refused: Option<(String, Instant)>,
    /// How sshd's files looked before they were last found right.
    seen: Vec<Option<Look>>,
    /// The question that is being answered.
    asked: Option<Asked>,
}

/// A question on its way.
#[derive(Debug)]
struct Asked {
    since: Instant,
    /// How long the CA may wait for news.
    wait: Duration,
    coming: Receiver<Result<Fetched, NotFetched>>,
    came: Option<Result<Fetched, NotFetched>>,
}

/// What became of a question.
#[derive(Debug)]
pub(super) struct Answered {
    /// What came.
    pub(super) fetched: Result<Fetched, NotFetched>,
    /// How long the CA might have waited for news.
    pub(super) wait: Duration,
    /// How long it took.
    pub(super) took: Duration,
}

/// The stack of the asking thread: what TLS needs; memory is taken by what is used of it only.
const STACK_BYTES: usize = 1 << 20;

/// Size and time of a file's last change: enough to notice that it is another.
pub(super) type Look = (u64, i64, i64);

/// How a file looks; none where it is not there.
pub(super) fn look(path: &Path) -> Option<Look> {
    use std::os::unix::fs::MetadataExt as _;
    let about = std::fs::metadata(path).ok()?;
    Some((about.size(), about.ctime(), about.ctime_nsec()))
}

fn looks(state: &Path) -> Vec<Option<Look>> {
    FILES.iter().map(|name| look(&state.join(name))).collect()
}

/// After this time refused documents are looked at once more: the clock may have been wrong.
const ONCE_MORE: Duration = Duration::from_secs(600);

impl Trust {
    pub(super) fn new(source: Source) -> Self {
        Self {
            source,
            repair_due: true,
            refused: None,
            seen: Vec::new(),
            asked: None,
        }
    }

    pub(super) fn waits(&self) -> bool {
        self.source.waits()
    }

    /// Has the helper make good what a killed or failed installation left, or what somebody changed since:
    /// without its revocation list sshd lets no key in. Needs no server.
    pub(super) fn repair(
        &mut self,
        config: &Config,
        helper: &Helper,
    ) -> Result<Option<TrustAnswer>, NotRenewed> {
        let before = looks(&config.trust.state);
        if !self.repair_due && self.seen == before {
            return Ok(None);
        }
        self.repair_due = true;
        let answer = trust_answer(helper.ask(&Request::Repair {})?)?;
        // As they looked before the helper did: what somebody changes while it works is then seen the next time. And
        // what it changed itself is looked at once more.
        self.seen = before;
        self.repair_due = !answer.changed.is_empty();
        Ok(Some(answer))
    }

    /// Asks, without waiting for the answer. `now` is in Unix seconds; `wait` is how long the CA may wait for news.
    pub(super) fn ask(
        &mut self,
        config: &Config,
        client: &Arc<Client>,
        wait: Duration,
        now: u64,
    ) -> Result<(), NotRenewed> {
        let state = installed_state(config, now)?;
        self.look_once_more();
        let question = question(&state, wait, now)?;
        let (source, client) = (self.source.clone(), Arc::clone(client));
        // Room for the answer: the thread ends also where nobody takes it.
        let (sender, coming) = mpsc::sync_channel(1);
        thread::Builder::new()
            .stack_size(STACK_BYTES)
            .spawn(move || _ = sender.send(source.fetch(&client, &question)))
            .map_err(NotRenewed::Thread)?;
        self.asked = Some(Asked {
            since: Instant::now(),
            wait,
            coming,
            came: None,
        });
        Ok(())
    }

    /// Whether an answer is to come, or to be taken.
    pub(super) fn is_asking(&self) -> bool {
        self.asked.is_some()
    }

    /// Lets so much time pass, or less where an answer comes.
    pub(super) fn rest(&mut self, time: Duration) {
        let Some(asked) = self.asked.as_mut().filter(|asked| asked.came.is_none()) else {
            return thread::sleep(time);
        };
        asked.came = match asked.coming.recv_timeout(time) {
            Ok(fetched) => Some(fetched),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some(Err(NotFetched::Died)),
        };
    }

    /// The answer, once.
    pub(super) fn answer(&mut self) -> Option<Answered> {
        let mut asked = self.asked.take()?;
        let Some(fetched) = asked.came.take() else {
            self.asked = Some(asked);
            return None;
        };
        Some(Answered {
            fetched,
            wait: asked.wait,
            took: asked.since.elapsed(),
        })
    }

    /// Takes what came. `now` is in Unix seconds.
    pub(super) fn take(
        &mut self,
        config: &Config,
        helper: &Helper,
        fetched: &Fetched,
        now: u64,
    ) -> Result<Round, NotRenewed> {
        // As it is now: it may have changed since the question.
        let state = installed_state(config, now)?;
        let (mut news, mut installed) = (false, None);
        if let Some(documents) = &fetched.documents {
            let advance = state.advance(&documents.documents(), now);
            news = Stored::of(&advance.state) != Stored::of(&state);
            let mut refused = advance.refused.map(|refusal| refusal.to_string());
            if news {
                let answer = self.install(fetched, helper)?;
                // Where the helper was asked, its word is the last one.
                refused = answer.refused.clone();
                installed = Some(answer);
            }
            self.refused = refused.map(|reason| (reason, Instant::now()));
            // Remembered even where something was refused: the next answer then comes with the next documents.
            self.source.remember(fetched);
        }
        Ok(Round {
            installed,
            server_time: fetched.server_time,
            news,
            refused: self.refused.as_ref().map(|(reason, _)| reason.clone()),
        })
    }

    fn look_once_more(&mut self) {
        let old = |(_, at): &(String, Instant)| at.elapsed() > ONCE_MORE;
        if self.refused.as_ref().is_some_and(old) {
            self.source.forget();
        }
    }

    fn install(&mut self, fetched: &Fetched, helper: &Helper) -> Result<TrustAnswer, NotRenewed> {
        let Some(documents) = fetched.documents.clone() else {
            return Err(NoHelp::Answer.into());
        };
        let offer = Offer {
            roots: documents.roots,
            bundle: Some(documents.bundle),
            view: documents.view,
        };
        // Whatever comes of it, the files are looked at afterwards.
        self.repair_due = true;
        trust_answer(helper.ask(&Request::InstallTrust(offer))?)
    }
}

fn question(state: &TrustState, wait: Duration, now: u64) -> Result<Question, StoreError> {
    Ok(Question {
        host: Identity::this().id(&Trusted::system())?,
        root: state.root().version,
        wait,
        now,
    })
}

/// What is installed, by the service's own eyes.
pub(super) fn installed_state(config: &Config, now: u64) -> Result<TrustState, StoreError> {
    trust_store::load(&config.trust, &Trusted::system(), &Identity::this(), now)
}

/// Whether what is installed is up to date.
pub(super) fn check_fresh(config: &Config, now: u64) -> Result<(), NotRenewed> {
    match installed_state(config, now)?.freshness(now) {
        Freshness::Fresh => Ok(()),
        Freshness::Stale => Err(NotRenewed::Stale),
        Freshness::Stopped => Err(NotRenewed::Stopped),
    }
}

fn trust_answer(answer: Answer) -> Result<TrustAnswer, NotRenewed> {
    match answer {
        Answer::Trust(answer) => Ok(answer),
        _ => Err(NoHelp::Answer.into()),
    }
}

/// Why trust was not renewed; what was installed stays.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotRenewed {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Fetch(#[from] NotFetched),
    #[error("take all fetched documents: {0}")]
    Refused(String),
    #[error("ask for trust documents")]
    Thread(#[source] std::io::Error),
    #[error(transparent)]
    Help(#[from] NoHelp),
    #[error("be up to date: the documents' refresh time has passed; logins go on")]
    Stale,
    #[error("let certificates in: the documents' hard stop has passed")]
    Stopped,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::helper::wire;
    use crate::run::status::Installed;
    use std::os::unix::net::UnixListener;

    /// A helper that answers as often as it is asked; `meanwhile` happens while it works.
    fn helper(
        door: &Path,
        changed: &'static [&'static str],
        meanwhile: impl Fn(usize) + Send + 'static,
    ) -> Helper {
        let listener = UnixListener::bind(door).unwrap();
        std::thread::spawn(move || {
            for (count, stream) in listener.incoming().enumerate() {
                let stream = stream.unwrap();
                let _: Request = wire::receive(&stream, wire::REQUEST_WAIT).unwrap();
                meanwhile(count);
                let changed = changed.iter().filter(|_| count == 0);
                let answer = TrustAnswer {
                    installed: Installed {
                        root_version: 1,
                        bundle_sequence: None,
                        host_view_version: None,
                        refresh_after: None,
                        hard_stop: None,
                    },
                    changed: changed.map(|name| (*name).to_owned()).collect(),
                    refused: None,
                    warnings: Vec::new(),
                };
                wire::send(&stream, &Answer::Trust(answer)).unwrap();
            }
        });
        Helper::at(door)
    }

    fn scene() -> (tempfile::TempDir, Config, Trust) {
        let folder = tempfile::tempdir().unwrap();
        let text = format!(
            "[trust]\nstate = {:?}\n[service]\ntrust_from = \"file:/nonexistent\"\n",
            folder.path()
        );
        let config = Config::parse(&text).unwrap();
        for name in FILES {
            std::fs::write(folder.path().join(name), "right").unwrap();
        }
        let source = Source::configured(&config).unwrap().unwrap();
        (folder, config, Trust::new(source))
    }

    #[test]
    fn a_file_that_is_changed_while_the_helper_works_is_looked_at_again() {
        // F-10
        let (folder, config, mut trust) = scene();
        let list = folder.path().join("revoked-keys");
        let helper = helper(&folder.path().join("door"), &[], move |count| {
            if count == 0 {
                std::fs::write(&list, "").unwrap();
            }
        });
        assert!(trust.repair(&config, &helper).unwrap().is_some());
        assert!(trust.repair(&config, &helper).unwrap().is_some());
        // Now everything was right from before to after.
        assert!(trust.repair(&config, &helper).unwrap().is_none());
    }

    #[test]
    fn what_the_helper_has_changed_is_looked_at_once_more() {
        let (folder, config, mut trust) = scene();
        let helper = helper(&folder.path().join("door"), &["revoked-keys"], |_| {});
        assert!(trust.repair(&config, &helper).unwrap().is_some());
        assert!(trust.repair(&config, &helper).unwrap().is_some());
        assert!(trust.repair(&config, &helper).unwrap().is_none());
    }
}
