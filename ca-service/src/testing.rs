//! What several modules' tests need: a server that answers whatever a test says, and AWS's signatures.

pub(crate) mod http_stub;
pub(crate) mod metadata_signer;
pub(crate) mod token_issuer;
