//! Hosts as EC2 describes them: in the Region of the environment's credentials, or in every configured place.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use eic_aws::ec2::{Instance, Which};
use eic_protocol::api::instance::{Enrolment, InstanceView};
use eic_protocol::aws_region::AwsRegion;
use eic_protocol::instance_id::InstanceId;
use eic_protocol::os_user::OsUser;

use super::mode_of_tag;
use crate::config::Config;
use crate::credentials::{Resolved, Selection};
use crate::host_name::HostName;
use crate::host_spec::{Meaning, Within};
use crate::join::join_all;
use crate::resident::{LoginError, Resident};

/// One account in one Region, and the credentials for it.
#[derive(Clone, Debug)]
pub(super) struct Corner {
    pub(super) selection: Selection,
    pub(super) region: Option<AwsRegion>,
    label: String,
    /// [`crate::config::Place::optional`]
    optional: bool,
}

/// What a look-up in all corners gave.
#[derive(Debug, Default)]
pub(super) struct Looked {
    /// Hosts, each with the credentials that found it.
    pub(super) found: Vec<(InstanceView, Selection)>,
    /// Corners that could not be asked.
    pub(super) failed: Vec<(String, LoginError)>,
    /// Of those that need not answer.
    pub(super) excused: Vec<LoginError>,
    /// Lines for stderr.
    pub(super) notes: Vec<String>,
}

/// All hosts of all corners.
#[derive(Debug, Default)]
pub(in crate::resident) struct Listed {
    /// Hosts with the states that EC2 tells, e.g. `running`.
    pub(in crate::resident) hosts: Vec<(InstanceView, String)>,
    /// Lines for stderr: corners that could not be asked.
    pub(in crate::resident) notes: Vec<String>,
}

impl Resident {
    pub(super) async fn look_up(
        &self,
        config: &Config,
        selection: &Selection,
        meanings: &[Meaning],
    ) -> Looked {
        let mut asked = Vec::new();
        for meaning in meanings {
            for corner in corners(config, selection, &meaning.within) {
                for way in ways(&meaning.name) {
                    asked.push((meaning, corner.clone(), way));
                }
            }
        }
        let answers = asked
            .iter()
            .map(|(meaning, corner, way)| self.ask_corner(config, meaning, corner, way));
        let mut looked = Looked::default();
        for ((_, corner, _), answer) in asked.iter().zip(join_all(answers).await) {
            match answer {
                Ok(views) => looked.found.extend(
                    views
                        .into_iter()
                        .map(|view| (view, corner.selection.clone())),
                ),
                Err(error) => looked.fail(corner, error),
            }
        }
        // An id means one host, wherever else it was not looked for.
        if meanings.iter().any(|meaning| meaning.name.is_instance()) {
            looked.notes.clear();
        }
        looked
    }

    async fn ask_corner(
        &self,
        config: &Config,
        meaning: &Meaning,
        corner: &Corner,
        way: &Way<'_>,
    ) -> Result<Vec<InstanceView>, LoginError> {
        let credentials = self.credentials_of(corner).await?;
        let found = self
            .describe(&credentials, &way.which(), &corner.selection)
            .await?;
        let up: Vec<Instance> = found.into_iter().filter(is_up).collect();
        let images = self.image_users(config, &credentials, &up).await;
        let views = up
            .into_iter()
            .map(|instance| view_of(instance, config, &images));
        let account = meaning.within.account.as_ref();
        Ok(views
            .filter(|view| account.is_none_or(|account| *account == view.account))
            .collect())
    }

    pub(super) async fn credentials_of(
        &self,
        corner: &Corner,
    ) -> Result<Arc<Resolved>, LoginError> {
        let found = self.credentials(&corner.selection).await?;
        Ok(match corner.region {
            Some(region) if region != found.region => Arc::new(Resolved {
                region,
                ..(*found).clone()
            }),
            _ => found,
        })
    }

    /// Every host that these credentials show, stopped ones included.
    pub(in crate::resident) async fn list_by_ec2(
        &self,
        config: &Config,
        selection: &Selection,
    ) -> Result<Listed, LoginError> {
        let corners = corners(config, selection, &Within::default());
        let asked_all = corners
            .iter()
            .map(|corner| self.list_corner(config, corner));
        let answers = join_all(asked_all).await;
        let mut looked = Looked::default();
        let mut listed = Listed::default();
        let mut asked = 0;
        for (corner, answer) in corners.iter().zip(answers) {
            match answer {
                Ok(hosts) => {
                    asked += 1;
                    listed.hosts.extend(hosts);
                }
                Err(error) => looked.fail(corner, error),
            }
        }
        listed.notes = std::mem::take(&mut looked.notes);
        match looked.first_failure() {
            Some(error) if asked == 0 => Err(error),
            _ => Ok(listed),
        }
    }

    async fn list_corner(
        &self,
        config: &Config,
        corner: &Corner,
    ) -> Result<Vec<(InstanceView, String)>, LoginError> {
        let credentials = self.credentials_of(corner).await?;
        let mut found = self
            .describe(&credentials, &Which::All, &corner.selection)
            .await?;
        found.retain(|instance| instance.state != "terminated");
        let images = self.image_users(config, &credentials, &found).await;
        let hosts = found.into_iter().map(|instance| {
            let state = instance.state.clone();
            (view_of(instance, config, &images), state)
        });
        Ok(hosts.collect())
    }

    /// Accounts of the images of those instances whose account nothing else tells.
    async fn image_users(
        &self,
        config: &Config,
        credentials: &Resolved,
        instances: &[Instance],
    ) -> HashMap<String, OsUser> {
        let untold = instances
            .iter()
            .filter(|instance| tagged_users(instance).is_empty());
        let images: BTreeSet<String> = untold
            .filter_map(|instance| instance.image_id.clone())
            .filter(|image| !config.images.contains_key(image))
            .collect();
        if images.is_empty() {
            return HashMap::new();
        }
        let now = self.now();
        self.aws.image_users(credentials, images, now).await
    }

    async fn describe(
        &self,
        with: &Resolved,
        which: &Which<'_>,
        selection: &Selection,
    ) -> Result<Vec<Instance>, LoginError> {
        let doing = "cannot look up the host (ec2:DescribeInstances)";
        match self.aws.describe(with, which, self.now()).await {
            Ok(found) => Ok(found),
            Err(error) if is_unknown_id(&error) => Ok(Vec::new()),
            Err(cause) => Err(self.aws_error(selection, doing, cause)),
        }
    }
}

impl Looked {
    fn fail(&mut self, corner: &Corner, error: LoginError) {
        let note = format!("{} was not searched: {error}", corner.label);
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
        if corner.optional {
            self.excused.push(error);
        } else {
            self.failed.push((corner.label.clone(), error));
        }
    }

    /// Why one of them could not be asked.
    pub(super) fn first_failure(self) -> Option<LoginError> {
        let failed = self.failed.into_iter().map(|(_, error)| error);
        failed.chain(self.excused).next()
    }
}

fn is_unknown_id(error: &eic_aws::error::AwsError) -> bool {
    error
        .code()
        .is_some_and(|code| code.starts_with("InvalidInstanceID"))
}

fn is_up(instance: &Instance) -> bool {
    matches!(instance.state.as_str(), "running" | "pending")
}

/// Where to ask: the configured places, or the environment's own account and Region.
pub(super) fn corners(config: &Config, selection: &Selection, within: &Within) -> Vec<Corner> {
    let places: Vec<_> = match &within.place {
        Some(place) => vec![place],
        None => own_places(config, selection),
    };
    if places.is_empty() {
        let label = selection.label();
        return vec![Corner {
            selection: selection.clone(),
            region: within.region,
            label,
            optional: false,
        }];
    }
    let of_place = |place: &crate::config::Place| {
        let regions: Vec<Option<AwsRegion>> = match within.region {
            Some(region) => vec![Some(region)],
            None if place.regions.is_empty() => vec![None],
            None => place.regions.iter().copied().map(Some).collect(),
        };
        let selection = place.selection(selection);
        let (name, optional) = (place.name.clone(), place.optional);
        regions.into_iter().map(move |region| Corner {
            selection: selection.clone(),
            region,
            label: region.map_or_else(|| name.clone(), |region| format!("{name} {region}")),
            optional,
        })
    };
    places.into_iter().flat_map(of_place).collect()
}

/// The places of the profile that the environment names; all where it names no credentials; none where it names others.
fn own_places<'a>(config: &'a Config, selection: &Selection) -> Vec<&'a crate::config::Place> {
    let fits = |place: &&crate::config::Place| match &place.profile {
        None => true,
        Some(profile) => {
            !selection.names_credentials() || selection.profile() == Some(profile.as_str())
        }
    };
    config.places.iter().filter(fits).collect()
}

/// One way to look a host up in EC2.
enum Way<'a> {
    Id([InstanceId; 1]),
    Filter(&'static str, &'a str),
}

impl Way<'_> {
    fn which(&self) -> Which<'_> {
        match self {
            Self::Id(ids) => Which::Ids(ids),
            Self::Filter(name, value) => Which::Filter(name, value),
        }
    }
}

fn ways(host: &HostName) -> Vec<Way<'_>> {
    let text = host.as_str();
    if let Ok(id) = text.parse::<InstanceId>() {
        return vec![Way::Id([id])];
    }
    match text.parse::<IpAddr>() {
        Ok(IpAddr::V4(_)) => vec![
            Way::Filter("private-ip-address", text),
            Way::Filter("ip-address", text),
        ],
        Ok(IpAddr::V6(_)) => vec![Way::Filter(
            "network-interface.ipv6-addresses.ipv6-address",
            text,
        )],
        Err(_) => vec![
            Way::Filter("tag:Name", text),
            Way::Filter("private-dns-name", text),
        ],
    }
}

fn tagged_users(instance: &Instance) -> Vec<OsUser> {
    let tagged = instance.tags.get("eic:user").map(String::as_str);
    let words = tagged.unwrap_or_default().split([' ', ',']);
    words.filter_map(|user| user.parse().ok()).collect()
}

/// An instance as EC2 describes it. Its tags can only make things stricter: `eic:enrolled`, `eic:instance-connect`.
/// The account: of its tag, else of the configured image, else of what such images come with.
pub(super) fn view_of(
    instance: Instance,
    config: &Config,
    images: &HashMap<String, OsUser>,
) -> InstanceView {
    let addresses = instance.addresses();
    let tag = |name: &str| instance.tags.get(name).map(String::as_str);
    let enrolled = tag("eic:enrolled").is_some_and(|value| value.eq_ignore_ascii_case("true"));
    let mode = mode_of_tag(tag("eic:instance-connect"));
    let mut users = tagged_users(&instance);
    if let Some(image) = instance.image_id.as_ref().filter(|_| users.is_empty()) {
        users.extend(
            config
                .images
                .get(image)
                .or_else(|| images.get(image))
                .cloned(),
        );
    }
    let port = tag("eic:ssh-port").and_then(|port| port.parse().ok());
    InstanceView {
        id: instance.id,
        account: instance.account,
        region: instance.region,
        availability_zone: instance.availability_zone,
        name: instance.tags.get("Name").cloned(),
        private_dns: instance.private_dns.filter(|name| !name.is_empty()),
        addresses,
        ssh_port: port.unwrap_or(22),
        enrolment: if enrolled {
            Enrolment::Enrolled
        } else {
            Enrolment::Unknown
        },
        instance_connect: mode,
        users,
        host_keys: Vec::new(),
    }
}
