//! The ways that one login may take, in order, from the command line, the configuration and what won last.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use crate::cause::Cause;
use crate::clock::unix_now;
use crate::control::client::Agent;
use crate::control::message::{Ask, ConnectAsk, Reply, RouteWays};
use crate::exit_code::{self, Failure};
use crate::paths::Paths;
use crate::terminal;
use crate::transport::bastion::{self, Bastion};
use crate::transport::carrier::{self, Order, Wish};
use crate::transport::chain::Chain;
use crate::transport::endpoint::{DnsName, EndpointId, TunnelSeconds};
use crate::transport::order::{TunnelAsk, TunnelTarget};
use crate::transport::race::{Canceller, Opener, race};
use crate::transport::ssm::{self, SessionAsk, SessionBy};
use crate::transport::winner::Winner;
use crate::transport::{Link, Via, Way, direct};

/// What the command line says about the way.
#[derive(Clone, Debug, Default)]
pub(super) struct Given {
    pub(super) via: Option<Via>,
    pub(super) bastion: Option<Bastion>,
    pub(super) address: Option<IpAddr>,
    pub(super) endpoint: Option<EndpointId>,
    pub(super) dns_name: Option<DnsName>,
    pub(super) max_duration: Option<TunnelSeconds>,
    /// The hosts that wait for this login.
    pub(super) behind: Chain,
}

impl Given {
    /// Whether the address that is named is all that the way needs.
    pub(super) fn needs_no_tunnel(&self) -> bool {
        let tunnel = [Via::Only(Way::Endpoint), Via::Only(Way::Ssm)];
        self.address.is_some() && self.via.is_none_or(|via| !tunnel.contains(&via))
    }
}

/// One login's ways.
#[derive(Clone, Debug)]
pub(super) struct Ways {
    run_dir: PathBuf,
    ask: Arc<ConnectAsk>,
    given: Given,
    addresses: Vec<IpAddr>,
    port: u16,
    route: RouteWays,
}

impl Ways {
    pub(super) fn new(
        run_dir: PathBuf,
        ask: &ConnectAsk,
        given: &Given,
        addresses: Vec<IpAddr>,
        port: u16,
        route: RouteWays,
    ) -> Self {
        Self {
            run_dir,
            ask: Arc::new(ask.clone()),
            given: given.clone(),
            addresses: given.address.map_or(addresses, |address| vec![address]),
            port,
            route,
        }
    }

    /// Whether there is an address to try again.
    pub(super) fn has_addresses(&self) -> bool {
        !self.addresses.is_empty()
    }

    /// Connects by the first way that answers.
    pub(super) fn open(&self) -> Result<Link, Failure> {
        match self.given.via.unwrap_or(self.route.via) {
            Via::Only(way) => race(vec![self.opener(way)?]).map(|(_, link)| link),
            Via::Auto => self.open_any(),
        }
    }

    fn open_any(&self) -> Result<Link, Failure> {
        let winner = Paths::from_env().ok().map(|paths| {
            let address = self.addresses.first().copied();
            Winner::new(&paths.cache_dir, &self.route.group, address)
        });
        let last = winner.as_ref().and_then(|winner| winner.recall(unix_now()));
        let order = in_order(
            self.bastion().is_some(),
            self.given.address.is_some(),
            self.route.is_managed,
            last,
        );
        let openers = order
            .into_iter()
            .map(|way| self.opener(way))
            .collect::<Result<_, _>>()?;
        let (way, link) = race(openers)?;
        if let Some(winner) = winner {
            winner.remember(way, unix_now());
        }
        Ok(link)
    }

    fn bastion(&self) -> Option<&Bastion> {
        self.given.bastion.as_ref().or(self.route.bastion.as_ref())
    }

    fn opener(&self, way: Way) -> Result<(Way, Opener), Failure> {
        let opener = match way {
            Way::Direct => self.direct(),
            Way::Endpoint => self.endpoint(),
            Way::Ssm => self.session(),
            Way::Bastion => self.through(self.bastion().cloned().ok_or_else(no_bastion)?),
        };
        Ok((way, opener))
    }

    fn direct(&self) -> Opener {
        let (addresses, port) = (self.addresses.clone(), self.port);
        Box::new(move |_| {
            let stream = direct::connect(&addresses, port);
            stream
                .map(Link::Tcp)
                .map_err(|e| Failure::new(exit_code::UNREACHABLE, e.to_string()))
        })
    }

    fn endpoint(&self) -> Opener {
        self.carried(Wish::Endpoint(TunnelAsk {
            selection: self.ask.selection.clone(),
            target: TunnelTarget::Host(self.ask.host.clone()),
            address: self.given.address,
            port: self.port,
            endpoint: self
                .given
                .endpoint
                .clone()
                .or_else(|| self.route.endpoint.clone()),
            dns_name: self.given.dns_name.clone(),
            max_duration: self.given.max_duration,
        }))
    }

    fn session(&self) -> Opener {
        let native = self.carried(Wish::Session(self.session_ask(false)));
        let by_plugin = self.by_plugin();
        match self.route.session_by {
            SessionBy::Native => native,
            // Looked for first: a session that nobody takes goes on for 20 minutes.
            SessionBy::Plugin => {
                Box::new(move |canceller| by_plugin(&ssm::Plugin::installed()?, canceller))
            }
            SessionBy::Auto => Box::new(move |canceller| match native(canceller) {
                Err(failure) if failure.cause == Cause::SessionPlugin => {
                    match ssm::Plugin::installed() {
                        // What it is needed for is the better message.
                        Err(ssm::PluginError::Missing) => Err(failure),
                        plugin => by_plugin(&plugin?, canceller),
                    }
                }
                other => other,
            }),
        }
    }

    fn session_ask(&self, by_plugin: bool) -> SessionAsk {
        SessionAsk {
            selection: self.ask.selection.clone(),
            host: self.ask.host.clone(),
            port: self.port,
            by_plugin,
        }
    }

    fn by_plugin(
        &self,
    ) -> impl FnOnce(&ssm::Plugin, &Canceller) -> Result<Link, Failure> + Send + 'static {
        let (run_dir, ask) = (self.run_dir.clone(), self.session_ask(true));
        move |plugin, canceller| match Agent::new(&run_dir)?.ask(Ask::Session(ask))?.1 {
            Reply::PluginSession(session) => plugin.open(&session, canceller).map(Link::Carried),
            Reply::Failed(failure) => Err(failure),
            _ => Err(super::unexpected()),
        }
    }

    fn carried(&self, wish: Wish) -> Opener {
        let run_dir = self.run_dir.clone();
        Box::new(move |canceller| {
            let order = Order::of(run_dir, wish)?;
            let (stream, notes) = carrier::open(&order, canceller)?;
            notes.iter().for_each(|note| terminal::note(note));
            Ok(Link::Carried(stream))
        })
    }

    fn through(&self, bastion: Bastion) -> Opener {
        let (addresses, port, agent) = (
            self.addresses.clone(),
            self.port,
            self.ask.user_agent.clone(),
        );
        let behind = self.given.behind.clone();
        Box::new(move |canceller| {
            let address = inner(&addresses).ok_or_else(|| {
                Failure::new(
                    exit_code::UNREACHABLE,
                    direct::NotReached::NoAddress.to_string(),
                )
            })?;
            let agent = agent.as_deref();
            bastion::open(&bastion, address, port, agent, &behind, canceller).map(Link::Carried)
        })
    }
}

/// Direct first, then the tunnels by what they cost; a configured bastion stands for them. What won last on this
/// network goes first.
fn in_order(has_bastion: bool, has_address: bool, is_managed: bool, last: Option<Way>) -> Vec<Way> {
    let tunnels: &[Way] = match (has_bastion, has_address, is_managed) {
        (true, _, _) => &[Way::Bastion],
        // An address of somebody's own choice need not be the instance's.
        (false, true, _) => &[],
        // A machine outside EC2 has no endpoint.
        (false, false, true) => &[Way::Ssm],
        (false, false, false) => &[Way::Endpoint, Way::Ssm],
    };
    let mut order: Vec<Way> = [Way::Direct].iter().chain(tunnels).copied().collect();
    order.sort_by_key(|way| Some(*way) != last);
    order
}

/// The address that is good behind a bastion: a private one where there is one.
fn inner(addresses: &[IpAddr]) -> Option<IpAddr> {
    let private = |address: &&IpAddr| match address {
        IpAddr::V4(v4) => v4.is_private(),
        IpAddr::V6(v6) => v6.is_unique_local(),
    };
    addresses
        .iter()
        .find(private)
        .or(addresses.first())
        .copied()
}

fn no_bastion() -> Failure {
    Failure::usage(
        "no bastion is named: use --bastion [user@]host[:port], or `bastion` in the [[host]] of config.toml",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_won_last_goes_first_and_an_endpoint_is_never_used_for_an_address_of_ones_own() {
        for (bastion, address, managed, last, order) in [
            (false, false, true, None, vec![Way::Direct, Way::Ssm]),
            (
                false,
                false,
                false,
                None,
                vec![Way::Direct, Way::Endpoint, Way::Ssm],
            ),
            (
                false,
                false,
                false,
                Some(Way::Endpoint),
                vec![Way::Endpoint, Way::Direct, Way::Ssm],
            ),
            (false, true, false, Some(Way::Endpoint), vec![Way::Direct]),
            (true, false, false, None, vec![Way::Direct, Way::Bastion]),
            (
                true,
                true,
                false,
                Some(Way::Bastion),
                vec![Way::Bastion, Way::Direct],
            ),
        ] {
            assert_eq!(in_order(bastion, address, managed, last), order);
        }
    }

    #[test]
    fn behind_a_bastion_the_private_address_counts() {
        let of = |all: &[&str]| {
            let all: Vec<IpAddr> = all.iter().map(|a| a.parse().unwrap()).collect();
            inner(&all).map(|a| a.to_string()).unwrap_or_default()
        };
        assert_eq!(of(&["192.0.2.1", "2001:db8::1", "10.0.0.5"]), "10.0.0.5");
        assert_eq!(of(&["2001:db8::1", "fd00::5"]), "fd00::5");
        assert_eq!(of(&["192.0.2.1"]), "192.0.2.1");
        assert_eq!(of(&[]), "");
    }
}
