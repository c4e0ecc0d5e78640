//! What several modules' tests need: a server that answers whatever a test says.

pub(crate) mod http_stub;
