//! The engine as a whole: rows of AWS's documented semantics, named threats, load limits, reload, speed.

mod context;
mod fixture;
mod limits;
mod rows;
mod scenarios;
mod stores;
