//! What ssh is told: one file of ours with one block, and one `Include` line in the user's own configuration.

pub mod block;
pub mod home;
pub mod host_users;
pub mod installation;
pub mod version;
