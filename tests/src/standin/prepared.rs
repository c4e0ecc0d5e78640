//! What Instance Connect signed beforehand: staples and key records, each signed once.
//!
//! The real metadata service only hands them out. Signing at each request would be most of what a login seems to take.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use crate::error::Result;
use crate::pki::{Record, SignerChain};
use crate::standin::locked;

/// How far the time may be from the staples' own, in seconds; they are good for an hour before it and a day after.
const STAPLES_KEPT: u64 = 600;

/// OCSP responses by name.
pub(crate) type Staples = Vec<(String, Vec<u8>)>;

/// A signer's chain and what it has signed.
#[derive(Debug)]
pub(crate) struct Prepared {
    chain: Arc<SignerChain>,
    staples: Mutex<Option<(u64, Staples)>>,
    /// By the signed bytes.
    signatures: Mutex<HashMap<String, Vec<u8>>>,
}

impl Prepared {
    /// Nothing signed yet.
    pub(crate) fn new(chain: Arc<SignerChain>) -> Prepared {
        Prepared {
            chain,
            staples: Mutex::default(),
            signatures: Mutex::default(),
        }
    }

    /// What `signer-cert/` answers.
    pub(crate) fn pem(&self) -> String {
        self.chain.pem()
    }

    /// The staples that are good at `now`.
    pub(crate) fn staples(&self, now: u64) -> Result<Staples> {
        let mut kept = locked(&self.staples);
        if let Some((made, staples)) = kept.as_ref()
            && made.abs_diff(now) < STAPLES_KEPT
        {
            return Ok(staples.clone());
        }
        let staples = self.chain.staples(now)?;
        *kept = Some((now, staples.clone()));
        Ok(staples)
    }

    /// The signer's signature of a record.
    pub(crate) fn signature(&self, record: &Record) -> Result<Vec<u8>> {
        let text = record.signed_bytes();
        let mut kept = locked(&self.signatures);
        if let Some(signature) = kept.get(&text) {
            return Ok(signature.clone());
        }
        let signature = self.chain.signer.sign_pss(text.as_bytes())?;
        kept.insert(text, signature.clone());
        Ok(signature)
    }
}
