//! Hosts at the API, against the program itself: what must not be certified, what must not be believed, and
//! the ways to a certificate. AWS is a stand-in that checks signatures and says what a test lets it say.

mod aws;
mod certification;
mod docs;
mod enrolment;
mod evidence;
mod host_ca;
mod known_keys;
mod reports;
mod requests;
mod shut_out;
mod views;
