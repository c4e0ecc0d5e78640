//! The hosts whose logins wait for this one, each behind the next: told to the ssh of a bastion in its environment,
//! since that starts this program again where the bastion is a host of ours. Without it, a host that is its own
//! bastion would start ssh for ever.

use eic_protocol::instance_id::InstanceId;

use crate::cause::Cause;
use crate::exit_code::Failure;

/// The variable: instance ids, the host that was typed first.
pub const VARIABLE: &str = "EIC_LOGIN_BEHIND";
/// Most bastions in a row. Two are common where networks are nested.
const MAX: usize = 8;

/// The hosts that wait, this login's own at the end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chain(Vec<InstanceId>);

impl Chain {
    /// As the ssh that runs this program was told.
    ///
    /// # Errors
    /// A [`Failure`] where the variable holds something else: without it nothing would end a circle.
    pub fn from_env() -> Result<Self, Failure> {
        match std::env::var_os(VARIABLE) {
            None => Ok(Self::default()),
            Some(text) => Self::parse(&text.to_string_lossy()),
        }
    }

    fn parse(text: &str) -> Result<Self, Failure> {
        let ids = text.split(',').map(str::parse::<InstanceId>);
        let wrong = |_| {
            Failure::usage(format!(
                "{VARIABLE} is set to no list of instances: unset it"
            ))
        };
        ids.collect::<Result<_, _>>().map(Self).map_err(wrong)
    }

    /// With the host that is connected to now.
    ///
    /// # Errors
    /// A [`Failure`] where that host waits already, and where too many do.
    pub fn with(&self, host: &InstanceId) -> Result<Self, Failure> {
        let chain = Self(self.0.iter().chain([host]).cloned().collect());
        let told = if self.0.contains(host) {
            format!("the bastions lead back to {host}")
        } else if chain.0.len() > MAX + 1 {
            format!("more than {MAX} bastions lie in front of one another")
        } else {
            return Ok(chain);
        };
        let hosts: Vec<&str> = chain.0.iter().map(InstanceId::as_str).collect();
        let path = hosts.join(" behind ");
        let text = format!("{told} ({path}): correct `bastion` in the [[host]] of config.toml");
        Err(Failure::usage(text).because(Cause::Configuration))
    }

    /// For [`VARIABLE`].
    #[must_use]
    pub fn value(&self) -> String {
        let hosts: Vec<&str> = self.0.iter().map(InstanceId::as_str).collect();
        hosts.join(",")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: usize) -> InstanceId {
        format!("i-{number:08x}").parse().unwrap()
    }

    fn chain(numbers: std::ops::Range<usize>) -> Chain {
        Chain(numbers.map(id).collect())
    }

    #[test]
    fn a_host_that_waits_already_is_refused_with_the_way_back_to_it() {
        for (waiting, next) in [(chain(1..2), 1), (chain(1..3), 1), (chain(1..4), 2)] {
            let refused = waiting.with(&id(next)).unwrap_err();
            assert_eq!(refused.cause, Cause::Configuration);
            assert!(!refused.passing, "waiting does not help");
        }
        let circle = chain(1..3).with(&id(1)).unwrap_err().message;
        let told = "i-00000001 behind i-00000002 behind i-00000001";
        assert!(circle.contains(told), "{circle}");
    }

    #[test]
    fn a_chain_without_an_end_is_refused() {
        assert!(chain(0..MAX + 1).with(&id(99)).is_err());
        assert!(chain(0..MAX).with(&id(99)).is_ok());
    }

    #[test]
    fn a_value_that_is_no_chain_is_refused_and_ones_own_is_read_back() {
        for bad in ["", "x", "i-00000001,", "i-00000001;i-00000002"] {
            assert!(Chain::parse(bad).is_err(), "{bad:?}");
        }
        let two = Chain::default().with(&id(1)).unwrap().with(&id(2)).unwrap();
        assert_eq!(Chain::parse(&two.value()).unwrap(), two);
    }
}
