//! How bytes get to the host's sshd. Each transport yields one connected descriptor;
//! what carries it to ssh (descriptor passing or pumping) is the same for all.

pub mod direct;
pub mod hand_over;
