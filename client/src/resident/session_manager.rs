//! Sessions of Session Manager for tunnels: at most three starts a second, which is the account's quota.

use std::time::Duration;

use eic_aws::error::{AwsError, is_throttling};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::aws::scope;
use super::{LoginError, Resident};
use crate::control::message::Reply;
use crate::transport::ssm::{Host, PluginSession, SessionAsk, SessionOpening, StartError, start};

/// StartSession calls per second and account (Systems Manager quotas).
const PER_SECOND: usize = 3;
/// How often a call that AWS throttled is repeated: others of the account start sessions, too, and calls that leave in
/// order do not arrive so.
const REPEATS: u32 = 3;

/// When the last sessions were started.
#[derive(Debug, Default)]
pub(super) struct Pace(Mutex<Vec<Instant>>);

impl Pace {
    /// Waits for its turn; those who wait queue up.
    async fn turn(&self) {
        let mut started = self.0.lock().await;
        let oldest = started.first().copied();
        if let Some(oldest) = oldest.filter(|_| started.len() >= PER_SECOND) {
            tokio::time::sleep_until(oldest + Duration::from_secs(1)).await;
            // Not before: whoever gives up while he waits takes nobody's turn.
            started.remove(0);
        }
        started.push(Instant::now());
    }
}

impl Resident {
    /// Answers [`Reply::Session`] or [`Reply::PluginSession`].
    pub(super) async fn start_session(&self, ask: SessionAsk) -> Result<Reply, LoginError> {
        let selection = ask.selection.filtered();
        let setting = self.settings.current()?;
        let (target, _) = self.resolve(&setting, &selection, &ask.host).await?;
        let with = self.credentials(&target.with).await?;
        let region = target.view.region;
        let doing = "cannot start a session (ssm:StartSession)";
        let (client, endpoint) = self
            .aws
            .target(&with, with.ssm.as_ref(), "ssm", region)
            .map_err(|cause| LoginError::Aws { doing, cause })?;
        let scope = scope(&with, region, "ssm", self.now());
        let host = Host {
            id: &target.view.id,
            region,
            port: ask.port,
        };
        let mut repeats = 0;
        let started = loop {
            self.pace.turn().await;
            let started = start(&client, &endpoint, &scope, host).await;
            match &started {
                Err(StartError::Aws(cause)) if cause.is_throttled() && repeats < REPEATS => {
                    repeats += 1;
                }
                _ => break started,
            }
            tokio::time::sleep(pause(repeats)).await;
        };
        let reply = started.and_then(|started| match ask.by_plugin {
            true => {
                let session = started.for_plugin(host, &endpoint, &target.with)?;
                let proxy = with.proxy.clone();
                Ok(Reply::PluginSession(Box::new(PluginSession {
                    proxy,
                    ..session
                })))
            }
            false => {
                let opening = started.opening(&scope)?;
                let proxy = with.proxy.clone();
                Ok(Reply::Session(Box::new(SessionOpening {
                    proxy,
                    ..opening
                })))
            }
        });
        match reply {
            Ok(reply) => Ok(reply),
            Err(StartError::Aws(cause)) => Err(self.aws_error(&target.with, doing, told(cause))),
            Err(other) => Err(LoginError::Session(other)),
        }
    }
}

/// Longer each time, and never the same for two who were throttled together.
fn pause(repeats: u32) -> Duration {
    let mut random = [0; 1];
    // Without randomness they come together again, and wait longer then.
    let _ = getrandom::fill(&mut random);
    Duration::from_millis(200) * repeats + Duration::from_millis(u64::from(random[0]))
}

/// Throttling is told with the quota that it is about.
fn told(cause: AwsError) -> AwsError {
    match cause {
        AwsError::Service {
            status,
            code,
            message,
        } if is_throttling(&code) => {
            let message = format!("{message} (an account starts {PER_SECOND} sessions a second)");
            AwsError::Service {
                status,
                code,
                message,
            }
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_pause_is_longer() {
        assert!(pause(1) < Duration::from_millis(456) && pause(3) >= Duration::from_millis(600));
    }

    #[tokio::test]
    async fn the_fourth_session_of_a_second_waits() {
        let pace = Pace::default();
        let begun = Instant::now();
        for _ in 0..PER_SECOND {
            // Looked at once: a turn that waits at all is none.
            let at_once = tokio::time::timeout(Duration::ZERO, pace.turn()).await;
            assert!(at_once.is_ok());
        }
        // Somebody who gave up while he waited took nobody's turn.
        let gave_up = tokio::time::timeout(Duration::ZERO, pace.turn()).await;
        assert!(gave_up.is_err());
        pace.turn().await;
        assert!(begun.elapsed() >= Duration::from_secs(1));
    }
}
