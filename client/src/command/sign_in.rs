//! Signing in at an issuer from a terminal: the page or the code on stderr, the browser where there is one.

use std::io::{self, IsTerminal as _};

use eic_aws::proxy::Proxy;
use eic_protocol::proof::Audience;
use eic_protocol::proof::oidc::bound_nonce;
use eic_protocol::subject_key::SubjectKey;

use super::runtime;
use crate::clock::unix_now;
use crate::config::Config;
use crate::control::message::PersonAsk;
use crate::credentials::{Selection, TokenError, TokenSource};
use crate::exit_code::Failure;
use crate::oidc::{self, Person, Registration, Tokens, Way};
use crate::resident::{LoginError, Resident};
use crate::terminal;

/// Where somebody signs in, and for which CA.
pub(super) struct Errand {
    registration: Registration,
    ca: Audience,
    proxy: Option<Proxy>,
}

/// What somebody with this environment signs in for; none: credentials or tokens of another kind are meant.
pub(super) fn errand(config: &Config, selection: &Selection) -> Option<Errand> {
    let id_token = config.id_token.as_ref();
    let source = TokenSource::of(selection, id_token)?;
    let ca = &config.ca.as_ref().filter(|_| source.is_person())?.url;
    Some(Errand {
        registration: id_token?.registration(ca)?,
        ca: ca.clone(),
        // What was read is good.
        proxy: config.proxy().ok()?,
    })
}

/// Whether somebody can be asked to sign in now.
pub(super) fn is_attended() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// The way that suits this machine.
pub(super) fn usual_way() -> Way {
    match oidc::is_available(|name| std::env::var_os(name)) {
        true => Way::Browser,
        false => Way::Device,
    }
}

impl Errand {
    /// Signs somebody in, bound to `key`; waits for him.
    pub(super) fn tokens(&self, way: Way, key: &SubjectKey) -> Result<Tokens, Failure> {
        let nonce = bound_nonce(&self.ca, key);
        let runtime = runtime()?;
        let signing_in = async {
            let (at, proxy) = (&self.registration, self.proxy.as_ref());
            oidc::sign_in(at, way, &nonce, proxy, &mut AtTerminal, unix_now).await
        };
        Ok(runtime.block_on(signing_in)?)
    }
}

/// For commands whose keys are their own: nobody else's sign-in is theirs.
pub(super) fn for_this_command(resident: &Resident, config: &Config) -> Result<(), Failure> {
    let selection = Selection::from_env();
    if let Some(errand) = errand(config, &selection)
        && is_attended()
    {
        let key = resident.person_key()?;
        let tokens = errand.tokens(usual_way(), &key)?;
        resident.welcome(PersonAsk {
            selection,
            tokens,
            key,
        })?;
    }
    Ok(())
}

/// For the same commands: `eic-login` signs in for the resident agent, which is no help to them.
pub(super) fn failure_of_this_command(error: LoginError) -> Failure {
    match error {
        LoginError::Token(TokenError::NobodySignedIn(issuer)) => {
            TokenError::NobodyToAsk(issuer).into()
        }
        other => other.into(),
    }
}

struct AtTerminal;

impl Person for AtTerminal {
    fn visit(&mut self, url: &str) {
        terminal::note(&format!("sign in at {url}"));
        // On a machine without a browser the line above is what there is.
        let _ = oidc::show(url, |name| std::env::var_os(name));
    }

    fn enter(&mut self, url: &str, code: &str, complete: Option<&str>) {
        terminal::note(&format!(
            "open {url} in any browser and enter the code {code}"
        ));
        if let Some(complete) = complete {
            terminal::note(&format!(
                "or open {complete}, and check that it shows {code}"
            ));
        }
    }
}
