//! Files that may change while the service runs: policy and inventory. The root document is the bundle's keeper's.
//! A change is taken in one step or not at all; what cannot be loaded leaves the running one in place.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, SystemTime};

use serde_json::json;

use super::App;
use crate::audit::{Actor, Event, EventError, EventName, Origin, event_request_id};
use crate::policy::Reloaded;

/// How often the files are looked at.
const INTERVAL: Duration = Duration::from_secs(1);

/// When a file was last changed, as far as the file system tells.
pub(super) type Stamp = Option<(SystemTime, u64, u64)>;

pub(super) fn stamp(file: &Path) -> Stamp {
    let metadata = std::fs::metadata(file).ok()?;
    Some((metadata.modified().ok()?, metadata.len(), metadata.ino()))
}

fn stamps<'p>(files: impl IntoIterator<Item = &'p PathBuf>) -> Vec<Stamp> {
    files.into_iter().map(|file| stamp(file)).collect()
}

impl App {
    /// Looks at the files for as long as the service runs.
    pub async fn watch_files(self: Arc<Self>) {
        let mut watched = Watched::of(&self);
        let mut ticks = tokio::time::interval(INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            watched.look(&self).await;
            self.tell_refused_proofs().await;
        }
    }

    /// Reads the policy again and records what came of it: each change once, however often it is tried.
    pub(crate) async fn reload_policy(&self) {
        let was_failing = self.policy.failing_since().is_some();
        let (error, additional) = match self.policy.reload(self.clock.now()) {
            Ok(reloaded) => match self.reloaded(reloaded, was_failing) {
                Some(additional) => (None, additional),
                None => return,
            },
            Err(error) => {
                let error = error.to_string();
                if !self.is_news(Some(error.as_str())) {
                    return;
                }
                tracing::error!(
                    error,
                    "ALARM: the policy cannot be loaded; the running one stays for a limited time"
                );
                let running = self.policy.current().digest().to_string();
                (Some(error), json!({ "policyHash": running }))
            }
        };
        if let Err(error) = self.audit_reload(error, additional).await {
            tracing::error!(error, "the reload of the policy could not be recorded");
        }
    }

    /// What is recorded of a policy that was loaded; nothing where nothing changed.
    fn reloaded(&self, reloaded: Reloaded, was_failing: bool) -> Option<serde_json::Value> {
        self.is_news(None);
        if was_failing {
            tracing::info!("the policy can be loaded again");
        }
        match reloaded {
            Reloaded::Unchanged if !was_failing => None,
            Reloaded::Unchanged => {
                Some(json!({ "policyHash": self.policy.current().digest().to_string() }))
            }
            Reloaded::Replaced { before, now } => {
                tracing::info!(policy = %now, "the policy was replaced");
                Some(
                    json!({ "policyHash": now.to_string(), "policyHashBefore": before.to_string() }),
                )
            }
        }
    }

    /// Whether this is another mistake than last time; it is remembered.
    fn is_news(&self, mistake: Option<&str>) -> bool {
        let mut last = self
            .policy_mistake
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let news = last.as_deref() != mistake;
        *last = mistake.map(str::to_owned);
        news
    }

    async fn audit_reload(
        &self,
        error: Option<String>,
        additional: serde_json::Value,
    ) -> Result<(), String> {
        let request_id = event_request_id().map_err(|e| e.to_string())?;
        let mut event = Event::new(
            EventName::ReloadPolicy,
            Actor::Service,
            Origin::default(),
            request_id,
        );
        event.error = error.map(|message| EventError {
            code: "PolicyRefused".to_owned(),
            message,
        });
        event.additional = Some(additional);
        self.recorder
            .append(&event)
            .await
            .map_err(|e| e.to_string())
    }

    fn reload_inventory(&self) {
        let Some(file) = self.inventory.file() else {
            return;
        };
        match file.reload() {
            Ok(true) => tracing::info!("the inventory file was read again"),
            Ok(false) => {}
            Err(error) => {
                tracing::error!(%error, "ALARM: the inventory file cannot be loaded; the hosts stay as they were")
            }
        }
    }
}

struct Watched {
    policy: Vec<Stamp>,
    inventory: Stamp,
}

impl Watched {
    fn of(app: &App) -> Self {
        Self {
            policy: stamps(&app.policy_files),
            inventory: app.inventory.file().and_then(|file| stamp(file.file())),
        }
    }

    async fn look(&mut self, app: &App) {
        let now = Self::of(app);
        // What failed is tried again: a file may have been seen half-written.
        if now.policy != self.policy || app.policy.failing_since().is_some() {
            app.reload_policy().await;
        }
        if now.inventory != self.inventory {
            app.reload_inventory();
        }
        *self = now;
    }
}
