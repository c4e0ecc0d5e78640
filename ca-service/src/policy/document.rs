//! The strict loader: one IAM JSON policy document to statements.
//! What is not understood is refused with file, statement and key named (C-03, C-04, C-07);
//! statements that cannot match anything here are kept unread and counted.

use super::action::{ActionSet, UnknownAction};
use super::condition::{Condition, ConditionError};
use super::json::{self, Json, JsonError};
use super::key::Key;
use super::operator::Operator;
use super::principal::{AttachedTo, AttachmentError, Principal, PrincipalError, PrincipalRule};
use super::resource::{ResourceError, ResourceRule};
use super::settings::Settings;
use super::statement::{Effect, Literals, Statement, StatementId};

/// Most statements of all documents together (C-16).
pub(super) const MAX_STATEMENTS: usize = 10_000;
/// Longest Sid in bytes.
const MAX_SID_BYTES: usize = 128;

/// One document, compiled.
#[derive(Debug, Default)]
pub(super) struct Document {
    pub(super) statements: Vec<Statement>,
    pub(super) unread: Vec<Unread>,
}

/// A statement that cannot match anything that this service decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unread {
    /// Where it stands.
    pub statement: StatementId,
    /// Why it was left unread.
    pub reason: UnreadReason,
}

/// Why a statement was left unread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnreadReason {
    /// None of its actions is decided here.
    Action,
    /// None of its principals can call this service (AWS services, SAML providers).
    Principal,
}

/// Where a document comes from, and whom it is attached to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Origin<'o> {
    pub(super) file: &'o str,
    pub(super) attached: Option<(&'o str, &'o AttachedTo)>,
    pub(super) settings: &'o Settings,
}

/// A policy was refused; the one that is running stays.
#[derive(Debug, thiserror::Error)]
#[error("load policy file `{file}`{}{}: {cause}", shown_statement(.statement), shown_element(.element))]
pub struct LoadError {
    file: String,
    statement: Option<Box<StatementId>>,
    element: Option<String>,
    // Kept small: most results that can hold this error hold something else.
    cause: Box<Cause>,
}

impl LoadError {
    pub(super) fn of_file(file: &str, cause: Cause) -> Self {
        Self {
            file: file.to_owned(),
            statement: None,
            element: None,
            cause: Box::new(cause),
        }
    }

    /// The file, as the configuration names it.
    #[must_use]
    pub fn file(&self) -> &str {
        &self.file
    }

    /// The statement, when one is at fault.
    #[must_use]
    pub fn statement(&self) -> Option<&StatementId> {
        self.statement.as_deref()
    }

    /// The element, operator and key, when one is at fault.
    #[must_use]
    pub fn element(&self) -> Option<&str> {
        self.element.as_deref()
    }
}

fn shown_statement(statement: &Option<Box<StatementId>>) -> String {
    match statement.as_deref() {
        Some(StatementId {
            index,
            sid: Some(sid),
            ..
        }) => format!(", statement {index} (`{sid}`)"),
        Some(StatementId {
            index, sid: None, ..
        }) => format!(", statement {index}"),
        None => String::new(),
    }
}

fn shown_element(element: &Option<String>) -> String {
    element
        .as_ref()
        .map_or_else(String::new, |element| format!(", {element}"))
}

/// What is wrong.
#[derive(Debug, thiserror::Error)]
pub(super) enum Cause {
    #[error("{0}")]
    Read(#[from] std::io::Error),
    #[error("it is not a regular file, or others than its owner and group may write to it")]
    Unsafe,
    #[error(transparent)]
    Json(#[from] JsonError),
    #[error(transparent)]
    Attachment(#[from] AttachmentError),
    #[error("a whole account is named, and `whole_account` is not set; name roles or users")]
    WholeAccount,
    #[error("all policies together have more than {MAX_STATEMENTS} statements")]
    TooManyStatements,
    #[error("a {expected} is needed here")]
    Type { expected: &'static str },
    #[error("unknown element; known are {known}")]
    UnknownElement { known: &'static str },
    #[error("the element is missing")]
    Missing,
    #[error("only one of {0} can be there")]
    Both(&'static str),
    #[error("version `{0}` is not 2012-10-17 or 2008-10-17")]
    Version(String),
    #[error("effect `{0}` is not exactly `Allow` or `Deny`")]
    Effect(String),
    #[error("the Sid is longer than {MAX_SID_BYTES} bytes, or another statement has it too")]
    Sid,
    #[error("not with Allow: it would allow all that it does not name")]
    NotWithAllow,
    #[error(
        "a policy without an attachment needs a Principal; attach the file, or name principals"
    )]
    NoPrincipal,
    #[error(
        "an attached policy has no Principal; drop the element, or list the file without an attachment"
    )]
    PrincipalInAttached,
    #[error("kind of principal unknown; known are AWS, Federated, Service, CanonicalUser")]
    PrincipalKind,
    #[error("`*` would except everyone")]
    ExceptEveryone,
    #[error(transparent)]
    Principal(#[from] PrincipalError),
    #[error(transparent)]
    Action(#[from] UnknownAction),
    #[error(transparent)]
    Resource(#[from] ResourceError),
    #[error("unknown operator{}", .nearest.map_or_else(String::new, |known| format!(", did you mean `{known}`?")))]
    Operator { nearest: Option<&'static str> },
    #[error("unknown condition key")]
    Key,
    #[error(
        "the key is there twice: names ignore case, and `aws:ResourceTag` and `ec2:ResourceTag` are one"
    )]
    KeyTwice,
    #[error(transparent)]
    Condition(#[from] ConditionError),
}

/// Loads one document: what could be read of it, and every statement's first mistake.
pub(super) fn load(origin: Origin<'_>, bytes: &[u8]) -> (Document, Vec<LoadError>) {
    let (mut document, mut mistakes) = (Document::default(), Vec::new());
    if let Err(error) = load_into(origin, bytes, &mut document, &mut mistakes) {
        mistakes.push(error);
    }
    (document, mistakes)
}

fn load_into(
    origin: Origin<'_>,
    bytes: &[u8],
    document: &mut Document,
    mistakes: &mut Vec<LoadError>,
) -> Result<(), LoadError> {
    let in_file = |cause: Cause| LoadError::of_file(origin.file, cause);
    let in_element = |(element, cause): Fault| LoadError {
        element: Some(element),
        ..in_file(cause)
    };
    let json = json::parse(bytes).map_err(|error| in_file(error.into()))?;
    let head = Head::read(&json).map_err(in_element)?;
    let mut sids = std::collections::HashSet::new();
    for (index, json) in head.statements.iter().enumerate() {
        let reader = Reader {
            origin,
            variables: head.variables,
            index: index.saturating_add(1),
        };
        mistakes.extend(reader.read_into(json, &mut sids, document).err());
    }
    Ok(())
}

/// An element and what is wrong with it.
type Fault = (String, Cause);

fn fault(element: &str, cause: impl Into<Cause>) -> Fault {
    (element.to_owned(), cause.into())
}

/// The members around the statements.
struct Head<'j> {
    /// Version 2012-10-17: `${…}` are variables. Without the element IAM takes 2008-10-17.
    variables: bool,
    statements: &'j [Json],
}

impl<'j> Head<'j> {
    fn read(json: &'j Json) -> Result<Self, Fault> {
        let mut head = Self {
            variables: false,
            statements: &[],
        };
        let mut found = false;
        for (name, value) in object(json, "document")? {
            match name.as_str() {
                "Version" => head.variables = has_variables(text(value, "Version")?)?,
                "Id" => drop(text(value, "Id")?),
                "Statement" => {
                    found = true;
                    head.statements = list_or_one(value);
                }
                other => {
                    return Err(fault(
                        &shown(other),
                        Cause::UnknownElement {
                            known: "Version, Id, Statement",
                        },
                    ));
                }
            }
        }
        if found {
            Ok(head)
        } else {
            Err(fault("Statement", Cause::Missing))
        }
    }
}

fn has_variables(version: &str) -> Result<bool, Fault> {
    match version {
        "2012-10-17" => Ok(true),
        "2008-10-17" => Ok(false),
        other => Err(fault("Version", Cause::Version(other.to_owned()))),
    }
}

/// The members of one statement, still JSON.
#[derive(Default)]
struct Elements<'j> {
    sid: Option<&'j Json>,
    effect: Option<&'j Json>,
    principal: Option<&'j Json>,
    not_principal: Option<&'j Json>,
    action: Option<&'j Json>,
    not_action: Option<&'j Json>,
    resource: Option<&'j Json>,
    not_resource: Option<&'j Json>,
    condition: Option<&'j Json>,
}

impl<'j> Elements<'j> {
    fn read(json: &'j Json) -> Result<Self, Fault> {
        let mut elements = Self::default();
        for (name, value) in object(json, "statement")? {
            let slot = match name.as_str() {
                "Sid" => &mut elements.sid,
                "Effect" => &mut elements.effect,
                "Principal" => &mut elements.principal,
                "NotPrincipal" => &mut elements.not_principal,
                "Action" => &mut elements.action,
                "NotAction" => &mut elements.not_action,
                "Resource" => &mut elements.resource,
                "NotResource" => &mut elements.not_resource,
                "Condition" => &mut elements.condition,
                other => {
                    return Err(fault(
                        &shown(other),
                        Cause::UnknownElement {
                            known: STATEMENT_ELEMENTS,
                        },
                    ));
                }
            };
            *slot = Some(value);
        }
        Ok(elements)
    }
}

const STATEMENT_ELEMENTS: &str =
    "Sid, Effect, Principal, NotPrincipal, Action, NotAction, Resource, NotResource, Condition";

/// Reads one statement.
struct Reader<'o> {
    origin: Origin<'o>,
    variables: bool,
    index: usize,
}

enum Read {
    Statement(Box<Statement>),
    Unread(UnreadReason),
}

impl Reader<'_> {
    fn read_into(
        &self,
        json: &Json,
        sids: &mut std::collections::HashSet<String>,
        document: &mut Document,
    ) -> Result<(), LoadError> {
        let elements = Elements::read(json).map_err(|fault| self.refuse(None, fault))?;
        let sid = read_sid(elements.sid).map_err(|fault| self.refuse(None, fault))?;
        if sid.as_ref().is_some_and(|sid| !sids.insert(sid.clone())) {
            return Err(self.refuse(sid, fault("Sid", Cause::Sid)));
        }
        match self
            .statement(&elements, sid.clone())
            .map_err(|fault| self.refuse(sid.clone(), fault))?
        {
            Read::Statement(statement) => document.statements.push(*statement),
            Read::Unread(reason) => document.unread.push(Unread {
                statement: self.id(sid),
                reason,
            }),
        }
        Ok(())
    }

    fn statement(&self, elements: &Elements<'_>, sid: Option<String>) -> Result<Read, Fault> {
        let effect = read_effect(elements.effect)?;
        let actions = read_actions(elements)?;
        if actions.is_empty() {
            return Ok(Read::Unread(UnreadReason::Action));
        }
        let Some(principal) = self.principal(elements, effect)? else {
            return Ok(Read::Unread(UnreadReason::Principal));
        };
        let resource = self.resource(elements, effect)?;
        let conditions = elements
            .condition
            .map_or_else(|| Ok(Vec::new()), |json| self.conditions(json))?;
        let literals = if effect == Effect::Allow {
            Literals::of(&conditions)
        } else {
            Literals::default()
        };
        let id = self.id(sid);
        Ok(Read::Statement(Box::new(Statement {
            id,
            effect,
            actions,
            principal,
            resource,
            conditions,
            literals,
        })))
    }

    fn principal(
        &self,
        elements: &Elements<'_>,
        effect: Effect,
    ) -> Result<Option<PrincipalRule>, Fault> {
        let (element, json) = match (
            elements.principal,
            elements.not_principal,
            self.origin.attached,
        ) {
            (None, None, Some((_, to))) => return Ok(Some(PrincipalRule::Attached(to.clone()))),
            (_, _, Some(_)) => return Err(fault("Principal", Cause::PrincipalInAttached)),
            (None, None, None) => return Err(fault("Principal", Cause::NoPrincipal)),
            (Some(_), Some(_), None) => {
                return Err(fault(
                    "NotPrincipal",
                    Cause::Both("Principal and NotPrincipal"),
                ));
            }
            (Some(json), None, None) => ("Principal", json),
            (None, Some(json), None) => ("NotPrincipal", json),
        };
        let negated = element == "NotPrincipal";
        if negated && effect == Effect::Allow {
            return Err(fault(element, Cause::NotWithAllow));
        }
        let principals = read_principals(json, element)?;
        if negated && principals.contains(&Principal::Everyone) {
            return Err(fault(element, Cause::ExceptEveryone));
        }
        let whole_account = principals
            .iter()
            .any(|own| matches!(own, Principal::Account { .. }));
        if whole_account && effect == Effect::Allow && !self.origin.settings.whole_account {
            return Err(fault(element, Cause::WholeAccount));
        }
        Ok(match (negated, principals.is_empty()) {
            (true, _) => Some(PrincipalRule::Not(principals)),
            (false, true) => None,
            (false, false) => Some(PrincipalRule::Any(principals)),
        })
    }

    fn resource(&self, elements: &Elements<'_>, effect: Effect) -> Result<ResourceRule, Fault> {
        let (element, json) = one_of(
            "Resource",
            elements.resource,
            "NotResource",
            elements.not_resource,
        )?;
        let negated = element == "NotResource";
        if negated && effect == Effect::Allow {
            return Err(fault(element, Cause::NotWithAllow));
        }
        let patterns = texts(json, element)?;
        ResourceRule::compile(&patterns, negated, self.variables)
            .map_err(|error| fault(element, error))
    }

    fn conditions(&self, json: &Json) -> Result<Vec<Condition>, Fault> {
        let mut conditions = Vec::new();
        for (name, block) in object(json, "Condition")? {
            let element = format!("Condition {}", shown(name));
            let operator = Operator::parse(name).ok_or_else(|| {
                fault(
                    &element,
                    Cause::Operator {
                        nearest: Operator::nearest(name),
                    },
                )
            })?;
            let start = conditions.len();
            for (key_name, values) in object(block, &element)? {
                let condition = self.condition(&element, operator, key_name, values)?;
                if has_twin(&conditions, start, &condition) {
                    return Err(fault(
                        &format!("{element} {}", shown(key_name)),
                        Cause::KeyTwice,
                    ));
                }
                conditions.push(condition);
            }
            if conditions.len() == start {
                return Err(fault(&element, ConditionError::Empty));
            }
        }
        Ok(conditions)
    }

    fn condition(
        &self,
        element: &str,
        operator: Operator,
        key: &str,
        values: &Json,
    ) -> Result<Condition, Fault> {
        let element = format!("{element} {}", shown(key));
        let key = Key::parse(key).ok_or_else(|| fault(&element, Cause::Key))?;
        let values = scalars(values, &element)?;
        Condition::compile(operator, key, values, self.variables)
            .map_err(|error| fault(&element, error))
    }

    fn id(&self, sid: Option<String>) -> StatementId {
        StatementId {
            file: self.origin.file.to_owned(),
            index: self.index,
            sid,
            attached_to: self
                .origin
                .attached
                .map(|(principal, _)| principal.to_owned()),
        }
    }

    fn refuse(&self, sid: Option<String>, (element, cause): Fault) -> LoadError {
        let statement = Some(Box::new(self.id(sid)));
        LoadError {
            statement,
            element: Some(element),
            ..LoadError::of_file(self.origin.file, cause)
        }
    }
}

/// `aws:ResourceTag/Team` and `aws:resourcetag/team` are one key to IAM.
fn has_twin(conditions: &[Condition], start: usize, condition: &Condition) -> bool {
    let name = condition.key.to_string();
    conditions
        .iter()
        .skip(start)
        .any(|other| super::key::same_name(&other.key.to_string(), &name))
}

fn read_sid(json: Option<&Json>) -> Result<Option<String>, Fault> {
    let Some(json) = json else { return Ok(None) };
    let sid = text(json, "Sid")?;
    match sid.len() {
        0 => Ok(None),
        1..=MAX_SID_BYTES => Ok(Some(sid.to_owned())),
        _ => Err(fault("Sid", Cause::Sid)),
    }
}

fn read_effect(json: Option<&Json>) -> Result<Effect, Fault> {
    match text(
        json.ok_or_else(|| fault("Effect", Cause::Missing))?,
        "Effect",
    )? {
        "Allow" => Ok(Effect::Allow),
        "Deny" => Ok(Effect::Deny),
        other => Err(fault("Effect", Cause::Effect(other.to_owned()))),
    }
}

fn read_actions(elements: &Elements<'_>) -> Result<ActionSet, Fault> {
    let (element, json) = one_of("Action", elements.action, "NotAction", elements.not_action)?;
    let patterns = texts(json, element)?;
    let named = ActionSet::named_by(patterns.iter().map(String::as_str))
        .map_err(|error| fault(element, error))?;
    Ok(if element == "NotAction" {
        named.complement()
    } else {
        named
    })
}

/// The principals that can call this service; AWS services, SAML providers and canonical users cannot.
fn read_principals(json: &Json, element: &str) -> Result<Vec<Principal>, Fault> {
    if let Json::Text(everyone) = json {
        return match everyone.as_str() {
            "*" => Ok(vec![Principal::Everyone]),
            other => Err(fault(element, PrincipalError::Form(other.to_owned()))),
        };
    }
    let kinds = object(json, element)?;
    if kinds.is_empty() {
        return Err(fault(element, ConditionError::Empty));
    }
    let mut principals = Vec::new();
    for (kind, values) in kinds {
        let element = format!("{element} {}", shown(kind));
        let values = texts(values, &element)?;
        match kind.as_str() {
            "AWS" => {
                for value in &values {
                    principals
                        .push(Principal::parse_aws(value).map_err(|error| fault(&element, error))?);
                }
            }
            "Federated" => {
                for value in &values {
                    let read = Principal::parse_federated(value);
                    principals.extend(read.map_err(|error| fault(&element, error))?);
                }
            }
            "Service" | "CanonicalUser" => {}
            _ => return Err(fault(&element, Cause::PrincipalKind)),
        }
    }
    Ok(principals)
}

fn one_of<'j>(
    name: &'static str,
    json: Option<&'j Json>,
    not_name: &'static str,
    not_json: Option<&'j Json>,
) -> Result<(&'static str, &'j Json), Fault> {
    match (json, not_json) {
        (Some(json), None) => Ok((name, json)),
        (None, Some(json)) => Ok((not_name, json)),
        (None, None) => Err(fault(name, Cause::Missing)),
        (Some(_), Some(_)) => Err(fault(not_name, Cause::Both("an element and its Not- form"))),
    }
}

fn object<'j>(json: &'j Json, element: &str) -> Result<&'j [(String, Json)], Fault> {
    match json {
        Json::Object(members) => Ok(members),
        _ => Err(fault(
            element,
            Cause::Type {
                expected: "JSON object",
            },
        )),
    }
}

fn text<'j>(json: &'j Json, element: &str) -> Result<&'j str, Fault> {
    match json {
        Json::Text(text) => Ok(text),
        _ => Err(fault(
            element,
            Cause::Type {
                expected: "JSON string",
            },
        )),
    }
}

fn list_or_one(json: &Json) -> &[Json] {
    match json {
        Json::List(list) => list,
        one => std::slice::from_ref(one),
    }
}

/// One or more strings; an empty list names nothing and is a slip.
fn texts(json: &Json, element: &str) -> Result<Vec<String>, Fault> {
    let texts: Vec<String> = list_or_one(json)
        .iter()
        .map(|item| text(item, element).map(str::to_owned))
        .collect::<Result<_, _>>()?;
    if texts.is_empty() {
        return Err(fault(element, ConditionError::Empty));
    }
    Ok(texts)
}

/// Condition values: IAM also takes JSON numbers and booleans.
fn scalars(json: &Json, element: &str) -> Result<Vec<String>, Fault> {
    let scalar = |item: &Json| match item {
        Json::Text(text) => Ok(text.clone()),
        Json::Number(number) => Ok(number.clone()),
        Json::Bool(answer) => Ok(answer.to_string()),
        _ => Err(fault(
            element,
            Cause::Type {
                expected: "string, number or boolean",
            },
        )),
    };
    list_or_one(json).iter().map(scalar).collect()
}

fn shown(name: &str) -> String {
    format!("`{}`", eic_protocol::text::printable(name))
}

#[cfg(test)]
mod tests;
