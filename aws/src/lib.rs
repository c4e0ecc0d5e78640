//! `eic-aws`: the few AWS calls that CA and client make by hand, over one bounded HTTPS client.
//!
//! No general SDK: the EC2 crate alone would double the client's build. Every call has a
//! deadline and a size cap, follows no redirect and reads no proxy variable of the environment.
//! Where credentials come from is the caller's business.

pub mod ec2;
pub mod endpoint;
pub mod error;
pub mod http_client;
pub mod instance_connect;
pub mod json_call;
pub mod proxy;
pub mod query;
pub mod s3;
pub mod sigv4;
pub mod sts;
