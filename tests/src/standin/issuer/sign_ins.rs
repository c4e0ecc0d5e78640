//! Who is signing in: accounts, codes that were given and codes of devices. The rules of RFC 6749 (codes), RFC 7636
//! (PKCE), RFC 8252 (installed programs) and RFC 8628 (devices), without HTTP. Times are unix seconds.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};

use crate::error::Result;
use crate::standin::issuer::form::Form;
use crate::standin::issuer::{CLIENT_ID, Person, random};

/// How long a code of the browser counts (RFC 6749 section 4.1.2 recommends ten minutes at most).
const CODE_LIFETIME: u64 = 60;
/// How long a device's code counts.
pub(super) const DEVICE_LIFETIME: u64 = 300;
/// How often a device may ask. Seconds.
pub(super) const INTERVAL: u64 = 1;
/// Letters of codes that people type: no vowels, so that they spell nothing (RFC 8628 section 6.1).
const LETTERS: &[u8; 16] = b"BCDFGHJKLMNPQRST";

/// What of a person is asked for beside `openid`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Scopes {
    pub(super) email: bool,
    pub(super) groups: bool,
}

/// Somebody who has signed in, and what the token is to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SignedIn {
    pub(super) person: Person,
    pub(super) scopes: Scopes,
    pub(super) nonce: Option<String>,
}

/// Why a browser is not sent back with a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Told on a page of the issuer: where to send the browser is just what is in doubt (RFC 6749 section 4.1.2.1).
    Page(&'static str),
    /// Told to the client.
    Error(&'static str),
}

/// The issuer's memory.
#[derive(Debug, Default)]
pub(super) struct SignIns {
    /// By the browser's session.
    people: BTreeMap<String, Person>,
    codes: BTreeMap<String, Code>,
    devices: BTreeMap<String, Device>,
    pending: usize,
}

/// A code that a browser carries.
#[derive(Debug)]
struct Code {
    signed_in: SignedIn,
    redirect_uri: String,
    challenge: String,
    until: u64,
}

/// A device that waits for its code to be entered.
#[derive(Debug)]
struct Device {
    user_code: String,
    scopes: Scopes,
    person: Option<Person>,
    asked_at: Option<u64>,
    until: u64,
}

impl SignIns {
    /// An account; the session of the browser in which its owner is signed in.
    pub(super) fn enrol(&mut self, person: Person) -> Result<String> {
        let session = random()?;
        self.people.insert(session.clone(), person);
        Ok(session)
    }

    /// How often devices were told to wait.
    pub(super) fn pending(&self) -> usize {
        self.pending
    }

    /// The code with which this browser goes back to the client.
    pub(super) fn authorize(
        &mut self,
        asked: &Form,
        session: &str,
        now: u64,
    ) -> Result<Result<String, Refusal>> {
        let signed_in = match self.check(asked, session) {
            Ok(signed_in) => signed_in,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let code = random()?;
        let begun = Code {
            signed_in,
            redirect_uri: asked.get("redirect_uri").to_owned(),
            challenge: asked.get("code_challenge").to_owned(),
            until: now + CODE_LIFETIME,
        };
        self.codes.insert(code.clone(), begun);
        Ok(Ok(code))
    }

    fn check(&self, asked: &Form, session: &str) -> Result<SignedIn, Refusal> {
        if asked.get("client_id") != CLIENT_ID {
            return Err(Refusal::Page("no such client"));
        }
        if !is_registered(asked.get("redirect_uri")) {
            return Err(Refusal::Page("no redirect address of this client"));
        }
        if asked.get("response_type") != "code" {
            return Err(Refusal::Error("unsupported_response_type"));
        }
        // PKCE is a duty of public clients (RFC 8252 section 8.1); a SHA-256 has 43 characters.
        let proves =
            asked.get("code_challenge_method") == "S256" && asked.get("code_challenge").len() == 43;
        if !proves || asked.get("state").is_empty() {
            return Err(Refusal::Error("invalid_request"));
        }
        let scopes = scopes(asked).ok_or(Refusal::Error("invalid_scope"))?;
        let person = self.people.get(session).cloned();
        Ok(SignedIn {
            person: person.ok_or(Refusal::Page("sign in first"))?,
            scopes,
            nonce: asked.has("nonce").then(|| asked.get("nonce").to_owned()),
        })
    }

    /// A device that wants to be signed in: its own code and the one that is to be entered.
    pub(super) fn begin_device(
        &mut self,
        asked: &Form,
        now: u64,
    ) -> Result<Result<(String, String), &'static str>> {
        if asked.get("client_id") != CLIENT_ID {
            return Ok(Err("invalid_client"));
        }
        let Some(scopes) = scopes(asked) else {
            return Ok(Err("invalid_scope"));
        };
        let (device_code, user_code) = (random()?, user_code(&random()?));
        let device = Device {
            user_code: user_code.clone(),
            scopes,
            person: None,
            asked_at: None,
            until: now + DEVICE_LIFETIME,
        };
        self.devices.insert(device_code.clone(), device);
        Ok(Ok((device_code, user_code)))
    }

    /// Somebody enters a device's code in a browser; whether there is such a device and such a session.
    pub(super) fn enter(&mut self, user_code: &str, session: &str, now: u64) -> bool {
        let person = self.people.get(session).cloned();
        let mut waiting = self.devices.values_mut();
        let device = waiting.find(|device| device.user_code == user_code && now < device.until);
        match (device, person) {
            (Some(device), Some(person)) if device.person.is_none() => {
                device.person = Some(person);
                true
            }
            _ => false,
        }
    }

    /// Who a form of the token endpoint is about, or its error code (RFC 6749 section 5.2).
    pub(super) fn redeem(&mut self, asked: &Form, now: u64) -> Result<SignedIn, &'static str> {
        // A public client has no secret: one that sends something has mistaken itself for another.
        if asked.get("client_id") != CLIENT_ID || asked.has("client_secret") {
            return Err("invalid_client");
        }
        match asked.get("grant_type") {
            "authorization_code" => self.redeem_code(asked, now),
            "urn:ietf:params:oauth:grant-type:device_code" => self.redeem_device(asked, now),
            _ => Err("unsupported_grant_type"),
        }
    }

    /// Whoever shows a code, rightly or not, has used it up.
    fn redeem_code(&mut self, asked: &Form, now: u64) -> Result<SignedIn, &'static str> {
        let begun = self.codes.remove(asked.get("code"));
        let begun = begun.ok_or("invalid_grant")?;
        let verifier = digest(&SHA256, asked.get("code_verifier").as_bytes());
        let right = now < begun.until
            && asked.get("redirect_uri") == begun.redirect_uri
            && URL_SAFE_NO_PAD.encode(verifier) == begun.challenge;
        right.then_some(begun.signed_in).ok_or("invalid_grant")
    }

    /// RFC 8628 section 3.5.
    fn redeem_device(&mut self, asked: &Form, now: u64) -> Result<SignedIn, &'static str> {
        let code = asked.get("device_code");
        let device = self.devices.get_mut(code).ok_or("invalid_grant")?;
        if now >= device.until {
            return Err("expired_token");
        }
        let before = device.asked_at.replace(now);
        if before.is_some_and(|before| now < before + INTERVAL) {
            return Err("slow_down");
        }
        let Some(person) = device.person.clone() else {
            self.pending += 1;
            return Err("authorization_pending");
        };
        let scopes = device.scopes;
        self.devices.remove(code);
        Ok(SignedIn {
            person,
            scopes,
            nonce: None,
        })
    }
}

/// `http://127.0.0.1:PORT/callback`: of an installed program the port is its own choice (RFC 8252 section 7.3).
fn is_registered(redirect_uri: &str) -> bool {
    let rest = redirect_uri.strip_prefix("http://127.0.0.1:");
    let port = rest.and_then(|rest| rest.strip_suffix("/callback"));
    port.is_some_and(|port| {
        port.parse::<u16>()
            .is_ok_and(|number| number.to_string() == port)
    })
}

/// None where the client does not want to know who somebody is.
fn scopes(asked: &Form) -> Option<Scopes> {
    asked.has_scope("openid").then(|| Scopes {
        email: asked.has_scope("email"),
        groups: asked.has_scope("groups"),
    })
}

/// Eight letters in two parts, of the first hexadecimal digits of something random.
fn user_code(random: &str) -> String {
    let digits = random
        .chars()
        .take(8)
        .filter_map(|digit| digit.to_digit(16));
    let letters = digits.filter_map(|digit| LETTERS.get(usize::try_from(digit).ok()?));
    let mut code: String = letters.map(|letter| char::from(*letter)).collect();
    code.insert(4, '-');
    code
}

#[cfg(test)]
mod tests;
