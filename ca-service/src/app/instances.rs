//! `GET /v1/instances`: the hosts that the caller may use, and as whom. Others do not exist for him.

use std::sync::Arc;

use eic_protocol::api::instance::{
    Enrolment, InstanceView, InstancesQuery, InstancesResponse, MAX_HOST,
};
use eic_protocol::arn::Partition;
use eic_protocol::instance_id::InstanceId;
use eic_protocol::os_user::OsUser;

use super::App;
use super::facts::{Facts, resource};
use crate::http::context::Context;
use crate::inventory::{Hosts, InstanceRecord};
use crate::policy::{Action, Asked, Decision, PolicySet, Resource, concerns, evaluate, reach};
use crate::refusal::Refusal;
use crate::session::Presented;

/// Most hosts of one answer.
const MAX_HOSTS: usize = 1_000;
/// Most hosts of one name whose keys are told: more than one are candidates for people.
const MAX_NAMESAKES: usize = 20;
/// Hosts that are asked about between two pauses for other requests.
const BATCH: usize = 64;
/// Hosts that one request of a caller's rate pays for. Whoever sees few of many has all of them looked at for each page.
const HOSTS_OF_A_TURN: usize = 1_000;

impl App {
    /// Lists hosts.
    ///
    /// # Errors
    /// [`Refusal`]
    pub(crate) async fn visible_instances(
        &self,
        context: &Context,
        presented: &Presented,
        query: &InstancesQuery,
    ) -> Result<InstancesResponse, Refusal> {
        let authorized = self.admit(context, presented, query, None).await?;
        if query
            .host
            .as_ref()
            .is_some_and(|host| host.is_empty() || host.len() > MAX_HOST)
        {
            return Err(Refusal::Malformed(format!(
                "`host` has 1 to {MAX_HOST} bytes"
            )));
        }
        self.replay.claim(authorized.claim()).await?;
        let caller = authorized.caller();
        let facts = Facts::of(caller, context, &self.nat);
        let _turn = match query.host {
            Some(_) => None,
            None => self.listings.turn(caller.accountable_id()).await,
        };
        self.check_paid(caller)?;
        let Hosts { hosts, complete } = match &query.host {
            Some(host) => {
                let asker = caller.accountable_id();
                let hosts = self.inventory.find(host, asker, context.now).await?;
                let complete = true;
                Hosts { hosts, complete }
            }
            None => self.inventory.all(context.now).await?,
        };
        let hosts = in_pages(hosts, query.after.as_ref());
        let (mut visible, looked_at) = self.visible(&facts, hosts, context.now).await;
        self.charge_caller(caller, looked_at / HOSTS_OF_A_TURN);
        if query.host.is_some() {
            self.add_legacy_keys(&mut visible).await?;
        }
        Ok(bounded(visible, complete))
    }

    /// Only where one host is asked for: who is about to log in.
    async fn add_legacy_keys(&self, views: &mut [InstanceView]) -> Result<(), Refusal> {
        let legacy = |view: &&mut InstanceView| view.enrolment != Enrolment::Enrolled;
        for view in views.iter_mut().filter(legacy).take(MAX_NAMESAKES) {
            view.host_keys = self.legacy_keys(view).await?;
        }
        Ok(())
    }

    /// Those that the caller may see, and how many were looked at to find them.
    async fn visible(
        &self,
        facts: &Facts,
        hosts: Vec<Arc<InstanceRecord>>,
        now: u64,
    ) -> (Vec<InstanceView>, usize) {
        if self.policy.is_stale(now) {
            return (Vec::new(), 0);
        }
        // One policy for the whole answer (threats C-17).
        let set = self.policy.current();
        if !concerns(&set, facts.caller()) {
            return (Vec::new(), 0);
        }
        let sees_all = may_read_inventory(&set, facts);
        let (mut views, mut looked_at) = (Vec::new(), 0);
        for batch in hosts.chunks(BATCH) {
            // One more than fits says that there are more.
            if views.len() > MAX_HOSTS {
                break;
            }
            looked_at += batch.len();
            let up = batch.iter().filter(|host| host.is_up());
            views.extend(up.filter_map(|host| {
                let users = visible_users(&set, facts, host, sees_all)?;
                Some(self.inventory.view(host, users))
            }));
            tokio::task::yield_now().await;
        }
        (views, looked_at)
    }
}

/// The accounts on a host that the caller may see; none where it does not exist for him.
fn visible_users(
    set: &PolicySet,
    facts: &Facts,
    host: &InstanceRecord,
    sees_all: bool,
) -> Option<Vec<OsUser>> {
    users(set, facts, host).or_else(|| sees_all.then(Vec::new))
}

/// The accounts that the caller may use there, as far as policy or inventory name them;
/// none where he may use none at all.
fn users(set: &PolicySet, facts: &Facts, host: &InstanceRecord) -> Option<Vec<OsUser>> {
    let resource = resource(host);
    let asked = Asked::default();
    let reach = reach(
        set,
        &facts.request(Action::SendSshPublicKey, &resource, &asked),
    )?;
    let allowed = |user: &&OsUser| {
        let asked = Asked {
            os_user: Some(user),
            ..Asked::default()
        };
        let decision = evaluate(
            set,
            &facts.request(Action::SendSshPublicKey, &resource, &asked),
        );
        matches!(decision, Decision::Allow(_))
    };
    // The inventory's own order first: it says which account is meant for people.
    let mut users: Vec<OsUser> = host.users().iter().filter(allowed).cloned().collect();
    for user in reach.users {
        if !users.contains(&user) {
            users.push(user);
        }
    }
    (reach.others || !users.is_empty()).then_some(users)
}

fn may_read_inventory(set: &PolicySet, facts: &Facts) -> bool {
    let service = Resource::service(Partition::Aws);
    let asked = Asked::default();
    matches!(
        evaluate(set, &facts.request(Action::ReadInventory, &service, &asked)),
        Decision::Allow(_)
    )
}

/// By id, which is what pages are cut by, from the one after `after`.
fn in_pages(
    mut hosts: Vec<Arc<InstanceRecord>>,
    after: Option<&InstanceId>,
) -> Vec<Arc<InstanceRecord>> {
    if let Some(after) = after {
        hosts.retain(|host| host.id() > after);
    }
    hosts.sort_by(|a, b| a.id().cmp(b.id()));
    hosts
}

/// Not all: there are too many, or an account does not answer.
fn bounded(mut instances: Vec<InstanceView>, complete: bool) -> InstancesResponse {
    let too_many = instances.len() > MAX_HOSTS;
    instances.truncate(MAX_HOSTS);
    let next = instances.last().filter(|_| too_many);
    let next = next.map(|last| last.id.clone());
    instances.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
    InstancesResponse {
        instances,
        truncated: too_many || !complete,
        next,
    }
}
