//! End-to-end scenarios: one binary, a file per topic.

mod lab;
