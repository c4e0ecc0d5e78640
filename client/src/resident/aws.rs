//! AWS for the agent: credentials of a selection (cached for minutes), and the three calls made with them.

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use eic_aws::ec2::{self, Instance, Which};
use eic_aws::endpoint::Endpoint;
use eic_aws::error::AwsError;
use eic_aws::http_client::{HttpClient, Roots};
use eic_aws::instance_connect::send_ssh_public_key;
use eic_aws::proxy::Proxy;
use eic_aws::sigv4::Scope;
use eic_protocol::api::instance::InstanceView;
use eic_protocol::aws_region::AwsRegion;
use eic_protocol::instance_id::InstanceId;
use eic_protocol::os_user::OsUser;
use eic_protocol::subject_key::SubjectKey;

use super::{LoginError, Resident, lock};
use crate::credentials::{CredentialsError, Resolved, Selection, SelectionId, resolve_in_child};

mod images;

/// Credentials without an end are asked for again after this. Seconds.
const MAX_CACHED: u64 = 900;
/// Credentials count as ended this early, so that a call made with them still arrives in time. Seconds.
const MARGIN: u64 = 300;
/// Most images that are remembered.
const MAX_IMAGES: usize = 4_096;
/// Pauses before the second and third try of a throttled push.
const BACKOFF: [Duration; 2] = [Duration::from_millis(300), Duration::from_millis(900)];

/// A selection's slot: one child process at a time, however many logins wait for it.
type Slot = Arc<tokio::sync::Mutex<Option<(u64, Arc<Resolved>)>>>;

#[derive(Debug)]
pub(super) struct Aws {
    program: PathBuf,
    credentials: Mutex<HashMap<SelectionId, Slot>>,
    /// By the proxy that was configured last.
    https: Mutex<Option<(Option<Proxy>, HttpClient)>>,
    /// Accounts of images; none: it was asked for in vain.
    images: Mutex<HashMap<String, Option<OsUser>>>,
}

impl Aws {
    pub(super) fn new(program: PathBuf) -> Self {
        Self {
            program,
            credentials: Mutex::default(),
            https: Mutex::default(),
            images: Mutex::default(),
        }
    }

    /// The credentials of a selection, and with them the way to use them: those that were got another way count no more.
    pub(super) async fn credentials(
        &self,
        selection: &Selection,
        proxy: Option<&Proxy>,
        now: u64,
    ) -> Result<Arc<Resolved>, CredentialsError> {
        let slot = self.slot(selection.id());
        let mut held = slot.lock().await;
        let counts =
            |(until, found): &&(u64, Arc<Resolved>)| now < *until && found.proxy.as_ref() == proxy;
        if let Some((_, found)) = held.as_ref().filter(counts) {
            return Ok(Arc::clone(found));
        }
        let found = Arc::new(resolve_in_child(&self.program, selection, proxy).await?);
        *held = Some((cached_until(found.expires_at, now), Arc::clone(&found)));
        Ok(found)
    }

    fn slot(&self, id: SelectionId) -> Slot {
        let mut slots = lock(&self.credentials);
        // A person has a handful; a job that sweeps profiles starts over.
        if slots.len() > 256 {
            slots.clear();
        }
        Arc::clone(slots.entry(id).or_default())
    }

    pub(super) fn clear(&self) {
        lock(&self.credentials).clear();
    }

    /// Forgets the credentials of a selection: AWS said that they have ended.
    pub(super) fn forget(&self, selection: &Selection) {
        lock(&self.credentials).remove(&selection.id());
    }

    pub(super) async fn describe(
        &self,
        with: &Resolved,
        which: &Which<'_>,
        now: u64,
    ) -> Result<Vec<Instance>, AwsError> {
        let (client, endpoint) = self.target(with, with.ec2.as_ref(), "ec2", with.region)?;
        ec2::describe_instances(
            &client,
            &endpoint,
            &scope(with, with.region, "ec2", now),
            which,
        )
        .await
    }

    /// The accounts that these images come with, as far as they can be known.
    pub(super) async fn image_users(
        &self,
        with: &Resolved,
        images: BTreeSet<String>,
        now: u64,
    ) -> HashMap<String, OsUser> {
        let known = lock(&self.images).clone();
        let unknown: BTreeSet<String> = images
            .iter()
            .filter(|image| !known.contains_key(*image))
            .cloned()
            .collect();
        if !unknown.is_empty() {
            let found = self.describe_images(with, &unknown, now).await;
            // No permission, or a name of nobody's: not asked again by this agent.
            let found = found.unwrap_or_default();
            let mut known = lock(&self.images);
            if known.len() > MAX_IMAGES {
                known.clear();
            }
            known.extend(unknown.into_iter().map(|image| {
                let user = found.get(&image).cloned();
                (image, user)
            }));
        }
        let known = lock(&self.images);
        let users = images
            .into_iter()
            .filter_map(|image| Some((image.clone(), known.get(&image)?.clone()?)));
        users.collect()
    }

    async fn describe_images(
        &self,
        with: &Resolved,
        images: &BTreeSet<String>,
        now: u64,
    ) -> Result<HashMap<String, OsUser>, AwsError> {
        let (client, endpoint) = self.target(with, with.ec2.as_ref(), "ec2", with.region)?;
        let scope = scope(with, with.region, "ec2", now);
        images::describe(&client, &endpoint, &scope, images).await
    }

    pub(super) async fn console(
        &self,
        with: &Resolved,
        view: &InstanceView,
        now: u64,
    ) -> Result<String, AwsError> {
        let (client, endpoint) = self.target(with, with.ec2.as_ref(), "ec2", view.region)?;
        ec2::get_console_output(
            &client,
            &endpoint,
            &scope(with, view.region, "ec2", now),
            &view.id,
        )
        .await
    }

    /// Pushes a key; throttling is answered by patience (three tries in all).
    pub(super) async fn push(
        &self,
        with: &Resolved,
        view: &InstanceView,
        user: &OsUser,
        key: &SubjectKey,
        now: u64,
    ) -> Result<String, AwsError> {
        let mut pauses = BACKOFF.into_iter();
        loop {
            let result = self.push_once(with, view, user, key, now).await;
            let throttled = result.as_ref().is_err_and(AwsError::is_throttled);
            match pauses.next().filter(|_| throttled) {
                Some(pause) => tokio::time::sleep(pause).await,
                None => return result,
            }
        }
    }

    /// Pushes a key for the serial console; its one port is 0 (SendSerialConsoleSSHPublicKey).
    pub(super) async fn push_to_console(
        &self,
        with: &Resolved,
        view: &InstanceView,
        key: &SubjectKey,
        now: u64,
    ) -> Result<String, AwsError> {
        let service = "ec2-instance-connect";
        let (client, endpoint) =
            self.target(with, with.instance_connect.as_ref(), service, view.region)?;
        let scope = scope(with, view.region, service, now);
        eic_aws::instance_connect::send_serial_console_key(
            &client, &endpoint, &scope, &view.id, key,
        )
        .await
    }

    async fn push_once(
        &self,
        with: &Resolved,
        view: &InstanceView,
        user: &OsUser,
        key: &SubjectKey,
        now: u64,
    ) -> Result<String, AwsError> {
        check_push(&view.id, user, key)?;
        let service = "ec2-instance-connect";
        let (client, endpoint) =
            self.target(with, with.instance_connect.as_ref(), service, view.region)?;
        let zone = view.availability_zone.as_deref();
        send_ssh_public_key(
            &client,
            &endpoint,
            &scope(with, view.region, service, now),
            &view.id,
            user,
            key,
            zone,
        )
        .await
    }

    pub(super) fn target(
        &self,
        with: &Resolved,
        given: Option<&Endpoint>,
        service: &'static str,
        region: AwsRegion,
    ) -> Result<(HttpClient, Endpoint), AwsError> {
        let endpoint = given
            .cloned()
            .unwrap_or_else(|| Endpoint::regional(service, region));
        if endpoint.url("").starts_with("http://") {
            return Ok((HttpClient::plain_only()?, endpoint));
        }
        let mut https = lock(&self.https);
        let client = match &*https {
            Some((proxy, client)) if *proxy == with.proxy => client.clone(),
            _ => HttpClient::new(Roots::System, with.proxy.as_ref())?,
        };
        *https = Some((with.proxy.clone(), client.clone()));
        Ok((client, endpoint))
    }
}

impl Resident {
    /// The credentials of a selection, by the proxy of the configuration.
    pub(super) async fn credentials(
        &self,
        selection: &Selection,
    ) -> Result<Arc<Resolved>, LoginError> {
        let setting = self.settings.current()?;
        let found = self
            .aws
            .credentials(selection, setting.proxy.as_ref(), self.now());
        Ok(found.await?)
    }
}

fn cached_until(expires_at: Option<u64>, now: u64) -> u64 {
    let longest = now.saturating_add(MAX_CACHED);
    expires_at.map_or(longest, |end| end.saturating_sub(MARGIN).min(longest))
}

pub(super) fn scope<'a>(
    with: &'a Resolved,
    region: AwsRegion,
    service: &'static str,
    now: u64,
) -> Scope<'a> {
    Scope {
        credentials: &with.credentials,
        region,
        service,
        now,
    }
}

/// What SendSSHPublicKey would refuse is told before it is asked (its model: InstanceId `^i-[a-f0-9]+$`,
/// InstanceOSUser must not end in `.` at its full length, SSHPublicKey 80 to 4096 characters).
fn check_push(instance: &InstanceId, user: &OsUser, key: &SubjectKey) -> Result<(), AwsError> {
    let length = key.to_string().len();
    if instance.is_managed() {
        return Err(AwsError::Signing(
            "Instance Connect takes EC2 instance ids only".to_owned(),
        ));
    }
    if user.as_str().len() == 32 && user.as_str().ends_with('.') {
        return Err(AwsError::Signing(format!(
            "Instance Connect does not take the user name `{user}`"
        )));
    }
    if !(80..=4096).contains(&length) {
        return Err(AwsError::Signing(format!(
            "Instance Connect takes keys of 80 to 4096 characters, this one has {length}"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::{EphemeralKey, KeyType};

    #[test]
    fn arguments_that_the_api_refuses_are_refused_here() {
        // H-13
        let key = EphemeralKey::generate(KeyType::Ed25519)
            .unwrap()
            .public()
            .clone();
        let instance: InstanceId = "i-0123456789abcdef0".parse().unwrap();
        let user = |text: &str| text.parse::<OsUser>();
        for bad in [
            "ubuntu$",
            "a@b",
            &"a".repeat(33),
            "Administrator",
            "1a",
            "-l",
        ] {
            assert!(user(bad).is_err(), "{bad}");
        }
        assert!(
            check_push(
                &instance,
                &user(&format!("{}.", "a".repeat(31))).unwrap(),
                &key
            )
            .is_err()
        );
        assert!(
            check_push(
                &"mi-0123456789abcdef0".parse().unwrap(),
                &user("ubuntu").unwrap(),
                &key
            )
            .is_err()
        );
        assert!(check_push(&instance, &user("ubuntu").unwrap(), &key).is_ok());
        // A certificate is no SubjectKey, so that it cannot even be passed.
        assert!(
            "ssh-ed25519-cert-v01@openssh.com AAAA"
                .parse::<SubjectKey>()
                .is_err()
        );
    }

    #[test]
    fn credentials_are_cached_until_five_minutes_before_their_end() {
        assert_eq!(cached_until(None, 1_000), 1_900);
        assert_eq!(cached_until(Some(1_400), 1_000), 1_100);
        assert_eq!(cached_until(Some(100), 1_000), 0);
        assert_eq!(cached_until(Some(1_000_000), 1_000), 1_900);
    }
}
