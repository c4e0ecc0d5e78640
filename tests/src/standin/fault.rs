//! Faults on demand: what the front does wrong, for which action, and how often.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use crate::standin::locked;

/// One way to be wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The service's own throttling error.
    Throttle,
    /// The right answer, late.
    Delay(Duration),
    /// No answer until the client gives up.
    Hang,
    /// The right answer, one byte of its body each interval.
    Drip(Duration),
    /// 302 to this location.
    Redirect(String),
    /// This answer instead.
    Answer {
        /// HTTP status.
        status: u16,
        /// Content-Type.
        content_type: String,
        /// Body.
        body: String,
    },
    /// The right answer, with this many spaces behind it.
    Oversized(usize),
    /// `kms:Sign` only: one bit of the signature is flipped.
    WrongSignature,
}

/// How often a fault strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Times {
    /// The next so many requests.
    Next(u32),
    /// Until it is cleared.
    Always,
}

/// The faults that are set, by `service:Action`.
#[derive(Debug, Default)]
pub struct Faults {
    set: Mutex<HashMap<String, (Fault, Times)>>,
}

impl Faults {
    /// Sets the fault of an action such as `sts:GetCallerIdentity`; it replaces an earlier one.
    pub fn set(&self, action: &str, fault: Fault, times: Times) {
        locked(&self.set).insert(action.to_owned(), (fault, times));
    }

    /// Makes the front right again for an action.
    pub fn clear(&self, action: &str) {
        locked(&self.set).remove(action);
    }

    /// The fault of this request, counted.
    pub(crate) fn strike(&self, action: &str) -> Option<Fault> {
        let mut set = locked(&self.set);
        let (fault, times) = set.get_mut(action)?;
        let fault = fault.clone();
        match times {
            Times::Always => {}
            Times::Next(left) if *left > 1 => *left -= 1,
            Times::Next(_) => drop(set.remove(action)),
        }
        Some(fault)
    }
}
