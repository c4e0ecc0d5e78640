//! ID tokens: where one is to be had, and how it is got. A job's is asked for with the CA's own URL as its audience, a
//! person's comes from signing in ([`crate::oidc`]). It is used once, and never written to a file, a log or a command line.
//! Whether it counts is the CA's business; this program does not look into it.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::time::Duration;

use eic_aws::error::AwsError;
use eic_aws::http_client::{HttpClient, HttpError, Limits, Roots};
use eic_aws::proxy::Proxy;
use eic_aws::query::percent;
use eic_protocol::api::problem::{Problem, ProblemCode};
use eic_protocol::proof::Audience;
use eic_protocol::proof::oidc::IdToken;
use eic_protocol::secret::Secret;
use eic_protocol::text::printable;
use http::Request;
use serde::{Deserialize, Serialize};
use tokio::process::Command;

use super::printed::printed;
use super::selection::Selection;
use crate::ca::USER_AGENT;
use crate::cause::Cause;
use crate::exit_code::{self, Failure};
use crate::files::{self, FileError};
use crate::oidc::{IssuerUrl, OidcError, Registration};

/// A token, as GitLab hands it to a job (`id_tokens:`).
pub(super) const VARIABLE: &str = "EIC_ID_TOKEN";
/// A file with one, as Kubernetes projects it into a container.
pub(super) const FILE: &str = "EIC_ID_TOKEN_FILE";
/// Where GitHub Actions gives tokens to a job with `permissions: id-token: write`, and the bearer token for it
/// (GitHub Actions documentation, "OpenID Connect reference").
pub(super) const GITHUB_URL: &str = "ACTIONS_ID_TOKEN_REQUEST_URL";
pub(super) const GITHUB_BEARER: &str = "ACTIONS_ID_TOKEN_REQUEST_TOKEN";
/// What a command is told in its environment.
const AUDIENCE: &str = "EIC_AUDIENCE";
/// Longest token file or answer. Bytes; a token itself has 16 KiB at most.
const MAX_TEXT: u64 = 64 * 1024;
/// Of GitHub's answer.
const LIMITS: Limits = Limits {
    deadline: Duration::from_secs(10),
    max_body: 64 * 1024,
};
/// A person may be asked for a second factor by a command.
const COMMAND_DEADLINE: Duration = Duration::from_secs(60);

/// `[id_token]` of the configuration: a command, a file, or an issuer at which people sign in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdTokenConfig {
    /// A program and its arguments, run without a shell; it prints a token for the audience in `EIC_AUDIENCE`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// A file that holds a token for this CA, renewed by somebody else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// The issuer at which people sign in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<IssuerUrl>,
    /// What this program is called there; without it, by the CA's URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// For issuers that want one of installed programs too; it is no secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_secret: Option<Secret<String>>,
    /// Scopes beside `openid`; without them `offline_access`, where the issuer has it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<String>,
}

impl IdTokenConfig {
    /// Whether it says exactly one thing.
    ///
    /// # Errors
    /// What to write instead.
    pub fn check(&self) -> Result<(), String> {
        let wrong = match (self.command.first(), &self.file, &self.issuer) {
            (None, None, Some(_)) => self.check_client(),
            _ if self.names_client() => {
                Some("client_id, client_secret and scopes go with `issuer`")
            }
            (Some(program), None, None) if program.starts_with('/') => None,
            (Some(_), None, None) => Some("command: name the program by its absolute path"),
            (None, Some(file), None) if file.is_absolute() => None,
            (None, Some(_), None) => Some("file: write an absolute path"),
            _ => Some(
                "write one of `command = [\"/path/to/program\"]`, `file = \"/path\"` and `issuer = \"https://…\"`",
            ),
        };
        wrong.map_or(Ok(()), |wrong| Err(wrong.to_owned()))
    }

    fn names_client(&self) -> bool {
        self.client_id.is_some() || self.client_secret.is_some() || !self.scopes.is_empty()
    }

    /// RFC 6749 appendix A.1, A.2 and A.4.
    fn check_client(&self) -> Option<&'static str> {
        let visible = |text: &str, also: u8| {
            let fits = |b: u8| (0x21..0x7f).contains(&b) || b == also;
            !text.is_empty() && text.len() <= 512 && text.bytes().all(fits)
        };
        if self.client_id.as_ref().is_some_and(|id| !visible(id, b' ')) {
            return Some("client_id: printable ASCII, at most 512 characters");
        }
        let secret = self.client_secret.as_ref().map(Secret::reveal);
        if secret.is_some_and(|secret| !visible(secret, b' ')) {
            return Some("client_secret: printable ASCII, at most 512 characters");
        }
        let is_scope = |scope: &String| visible(scope, 0x21) && !scope.contains(['"', '\\']);
        let fit = self.scopes.len() <= 16 && self.scopes.iter().all(is_scope);
        (!fit)
            .then_some("scopes: at most 16 words of printable ASCII, as in `[\"offline_access\"]`")
    }

    /// Where people sign in to this CA, where that is how they do.
    #[must_use]
    pub fn registration(&self, ca: &Audience) -> Option<Registration> {
        Some(Registration {
            issuer: self.issuer.clone()?,
            client_id: self.client_id.clone().unwrap_or_else(|| ca.to_string()),
            client_secret: self.client_secret.clone(),
            scopes: self.scopes.clone(),
        })
    }
}

/// Where a token is to be had.
#[derive(Clone, Debug)]
pub enum TokenSource {
    /// A token that was handed over: good for one sign-in.
    Given(Secret<String>),
    /// A file.
    File(PathBuf),
    /// GitHub Actions: a fresh one each time.
    GitHub {
        /// Where.
        url: String,
        /// Opens it.
        bearer: Secret<String>,
    },
    /// A program: a fresh one each time.
    Command(Vec<String>),
    /// Somebody who signed in at this issuer, by a browser.
    Person(IssuerUrl),
}

impl TokenSource {
    /// The source that somebody with this environment and configuration means; none: AWS credentials.
    /// What was written for this program counts first; GitHub's offer only where nothing names AWS credentials.
    #[must_use]
    pub fn of(selection: &Selection, config: Option<&IdTokenConfig>) -> Option<Self> {
        if let Some(token) = selection.get(VARIABLE) {
            return Some(Self::Given(Secret::new(token.to_owned())));
        }
        if let Some(file) = selection.get(FILE) {
            return Some(Self::File(file.into()));
        }
        if let Some(config) = config.filter(|_| !selection.names_credentials()) {
            let file = config.file.clone().map(Self::File);
            let person = || config.issuer.clone().map(Self::Person);
            let command = || Self::Command(config.command.clone());
            return Some(file.or_else(person).unwrap_or_else(command));
        }
        let github = selection.get(GITHUB_URL).zip(selection.get(GITHUB_BEARER));
        let github = github.filter(|_| !selection.names_credentials());
        github.map(|(url, bearer)| Self::GitHub {
            url: url.to_owned(),
            bearer: Secret::new(bearer.to_owned()),
        })
    }

    /// Whether a runner offers it to every job, rather than somebody having written it for this program.
    #[must_use]
    pub fn is_offer(&self) -> bool {
        matches!(self, Self::GitHub { .. })
    }

    /// Whether somebody signs in for it.
    #[must_use]
    pub fn is_person(&self) -> bool {
        matches!(self, Self::Person(_))
    }

    /// How the source is called in messages: never the token.
    #[must_use]
    pub fn label(&self) -> String {
        match self {
            Self::Given(_) => format!("ID token of {VARIABLE}"),
            Self::File(file) => format!("ID token in {}", printable(&file.display().to_string())),
            Self::GitHub { .. } => "ID token of GitHub Actions".to_owned(),
            Self::Command(command) => {
                let program = command.first().map_or("", String::as_str);
                format!("ID token by {}", printable(program))
            }
            Self::Person(issuer) => format!("sign-in at {issuer}"),
        }
    }

    /// Whether another token may be had from it, without anybody doing anything. A file's may be another one later.
    #[must_use]
    pub fn gives_more(&self) -> bool {
        !matches!(self, Self::Given(_))
    }

    /// A token for `audience`; GitHub is asked through `proxy`, where there is one. That of a person is kept by whoever he signed in to, and not here.
    ///
    /// # Errors
    /// [`TokenError`]
    pub async fn token(
        &self,
        audience: &Audience,
        selection: &Selection,
        proxy: Option<&Proxy>,
    ) -> Result<IdToken, TokenError> {
        let text = match self {
            Self::Given(token) => token.clone(),
            Self::File(file) => read(file)?,
            Self::GitHub { url, bearer } => ask_github(url, bearer, audience, proxy).await?,
            Self::Command(command) => run(command, audience, selection).await?,
            Self::Person(issuer) => return Err(TokenError::NobodySignedIn(issuer.clone())),
        };
        let token = text.reveal().trim().parse();
        token.map_err(|_| TokenError::NoToken(self.label()))
    }

    /// What to do where the CA does not take the token.
    #[must_use]
    pub fn remedy(&self, refused: &Problem, audience: &Audience) -> String {
        match refused.code {
            ProblemCode::ProofReplayed => {
                format!("each token serves one sign-in; {}", self.fresh())
            }
            ProblemCode::ProofStale => {
                format!(
                    "a token counts for 15 minutes after it was made; {}",
                    self.fresh()
                )
            }
            _ => self.another(audience),
        }
    }

    /// How to come to another token.
    #[must_use]
    pub fn fresh(&self) -> String {
        match self {
            Self::Given(_) => "sign in early in the job, once",
            Self::File(_) => {
                "have the file renewed more often (Kubernetes: expirationSeconds: 600)"
            }
            Self::GitHub { .. } => "try again: each try gets a fresh one of GitHub",
            Self::Command(_) => "the program must print a fresh one each time",
            Self::Person(_) => "run `eic-login` to sign in again",
        }
        .to_owned()
    }

    /// For a token that will never count: its audience is in the job's hands, issuer and subject are the operator's.
    fn another(&self, audience: &Audience) -> String {
        let operator = "the CA's operator must take this issuer, and this subject's claims";
        match self {
            // Asked for with the right audience: it is not that.
            Self::GitHub { .. } => operator.to_owned(),
            Self::Person(_) => format!(
                "run `eic-login` to sign in again; where that does not help, `client_id` in [id_token] is not the one \
                 that the CA knows (without it: {audience}), or {operator}"
            ),
            _ => {
                format!("the token must be made for the audience {audience} alone, and {operator}")
            }
        }
    }
}

fn read(file: &std::path::Path) -> Result<Secret<String>, TokenError> {
    let bytes = files::read_capped(file, MAX_TEXT)?;
    let missing = || TokenError::NoFile(printable(&file.display().to_string()));
    let text = String::from_utf8(bytes.ok_or_else(missing)?);
    Ok(Secret::new(text.unwrap_or_default()))
}

async fn ask_github(
    url: &str,
    bearer: &Secret<String>,
    audience: &Audience,
    proxy: Option<&Proxy>,
) -> Result<Secret<String>, TokenError> {
    #[derive(Deserialize)]
    struct Found {
        value: Secret<String>,
    }
    let loopback = ["http://127.0.0.1:", "http://[::1]:"];
    let plain = loopback.iter().any(|origin| url.starts_with(origin));
    if !plain && !url.starts_with("https://") {
        return Err(TokenError::Insecure);
    }
    let client = if plain {
        HttpClient::plain_only()?
    } else {
        HttpClient::new(Roots::System, proxy)?
    };
    let joint = if url.contains('?') { '&' } else { '?' };
    let request = Request::get(format!(
        "{url}{joint}audience={}",
        percent(audience.as_str())
    ))
    .header("accept", "application/json")
    .header("user-agent", USER_AGENT)
    .header("authorization", format!("bearer {}", bearer.reveal()))
    .body(Vec::new())
    .map_err(|_| TokenError::Insecure)?;
    let answer = client.send(request, LIMITS).await?;
    // A redirect is an answer like any other wrong one: the bearer token goes nowhere else.
    if answer.status != 200 {
        return Err(TokenError::Status(answer.status));
    }
    let found: Found = serde_json::from_slice(&answer.body).map_err(|_| TokenError::Status(200))?;
    Ok(found.value)
}

/// With exactly the selected environment, as credential programs are run.
async fn run(
    command: &[String],
    audience: &Audience,
    selection: &Selection,
) -> Result<Secret<String>, TokenError> {
    let (program, arguments) = command
        .split_first()
        .ok_or_else(|| TokenError::Command("no program".to_owned()))?;
    let failed = |what: String| TokenError::Command(printable(&what));
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .envs(selection.variables());
    command.env(AUDIENCE, audience.as_str());
    let printed = printed(&mut command, MAX_TEXT, COMMAND_DEADLINE).await;
    let (status, bytes) = printed.map_err(|e| match e.kind() {
        ErrorKind::TimedOut => failed(format!("no answer within {} s", COMMAND_DEADLINE.as_secs())),
        _ => failed(e.to_string()),
    })?;
    if !status.success() {
        return Err(failed(status.to_string()));
    }
    let text = String::from_utf8(bytes.to_vec()).unwrap_or_default();
    Ok(Secret::new(text))
}

/// There is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// Something else.
    #[error("{0}: this is no ID token (a compact JSON Web Token of at most 16 KiB)")]
    NoToken(String),
    /// The file is missing.
    #[error(
        "there is no ID token: `{0}` does not exist; {FILE} must name the projected token's file"
    )]
    NoFile(String),
    /// The file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// A bearer token would go over the wire in clear.
    #[error("{GITHUB_URL} is not an `https://` address: the job's token is not sent there")]
    Insecure,
    /// GitHub does not answer.
    #[error("get an ID token from GitHub Actions: {0}")]
    Http(#[from] HttpError),
    /// GitHub says no.
    #[error(
        "get an ID token from GitHub Actions: it answered {0}; the job needs `permissions: id-token: write`"
    )]
    Status(u16),
    /// The command.
    #[error("get an ID token by the configured command: {0}")]
    Command(String),
    /// Nobody signed in yet, or the session with it is over and cannot be renewed.
    #[error(
        "nobody is signed in at {0}: run `eic-login`, which opens its page in your browser, then try again"
    )]
    NobodySignedIn(IssuerUrl),
    /// The same, where a command signs in by itself.
    #[error(
        "nobody is signed in at {0}: `exec` and `issue` sign in by themselves, not by `eic-login`, and need a terminal for it; \
         in a job give them a token by {VARIABLE}, or by `command` in [id_token]"
    )]
    NobodyToAsk(IssuerUrl),
    /// The key of the sign-in is not known (any more).
    #[error(
        "the sign-in at {0} is not used: the resident agent has ended since it began; run `eic-login` again"
    )]
    SignInLost(IssuerUrl),
    /// The issuer renews no more.
    #[error("the sign-in at {issuer} is over: run `eic-login` to sign in again ({cause})")]
    SignInOver {
        /// Where.
        issuer: IssuerUrl,
        /// Its words.
        cause: OidcError,
    },
    /// The issuer does not answer now.
    #[error("the sign-in cannot be renewed now: {0}")]
    NotRenewed(OidcError),
    /// The token was shown before.
    #[error("the {label} has served its one sign-in: {remedy}")]
    Spent {
        /// Which.
        label: String,
        /// What to do.
        remedy: String,
    },
    /// The CA knows no issuer.
    #[error(
        "this CA takes no ID tokens: its operator must name an issuer, or sign in with AWS credentials"
    )]
    NotTaken,
    /// The CA does not take it.
    #[error("the CA does not take the {label}: {told}; {remedy}")]
    Refused {
        /// Which.
        label: String,
        /// The CA's words.
        told: String,
        /// What to do.
        remedy: String,
    },
    /// The account wants one that IAM does not give.
    #[error(
        "the CA wants a token of sts:GetWebIdentityToken beside these credentials, and AWS gives none: {0}; the principal \
         needs that permission, and the account outbound web identity federation"
    )]
    WebIdentity(AwsError),
}

impl From<TokenError> for Failure {
    fn from(error: TokenError) -> Self {
        let cause = match &error {
            TokenError::NoFile(_) | TokenError::Status(_) => Cause::CredentialsMissing,
            TokenError::NobodySignedIn(_)
            | TokenError::NobodyToAsk(_)
            | TokenError::SignInLost(_)
            | TokenError::SignInOver { .. } => Cause::SignIn,
            TokenError::WebIdentity(_) => Cause::CredentialsRejected,
            _ => Cause::IdToken,
        };
        let code = match &error {
            TokenError::NotRenewed(_) => exit_code::UNREACHABLE,
            _ => exit_code::CREDENTIALS,
        };
        Self::new(code, error.to_string()).because(cause)
    }
}

#[cfg(test)]
mod tests;
