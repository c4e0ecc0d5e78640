//! Policies from text for tests.

use std::path::Path;

use crate::policy::{LoadError, PolicySet, Settings, Sources};

/// One document under the name `policy.json`.
pub(super) fn compile(document: &str) -> Result<PolicySet, LoadError> {
    compile_with(Settings::default(), &[("policy.json", document)])
}

/// Several documents with principals of their own.
pub(super) fn compile_with(
    settings: Settings,
    documents: &[(&str, &str)],
) -> Result<PolicySet, LoadError> {
    let files = documents.iter().map(|(name, _)| (*name).into()).collect();
    let sources = Sources {
        files,
        attachments: Vec::new(),
        settings,
    };
    PolicySet::compile(&sources, |path| {
        let document = documents
            .iter()
            .find(|(name, _)| Path::new(name) == path)
            .unwrap();
        Ok(document.1.as_bytes().to_vec())
    })
}

/// A policy of these statements, which must load.
pub(super) fn policy(statements: &str) -> PolicySet {
    compile(&format!(
        r#"{{"Version":"2012-10-17","Statement":[{statements}]}}"#
    ))
    .unwrap()
}

/// An Allow of SendSSHPublicKey for everyone on everything, with that condition.
pub(super) fn allow(condition: &str) -> String {
    format!(
        r#"{{"Effect":"Allow","Principal":"*","Action":"ec2-instance-connect:SendSSHPublicKey","Resource":"*","Condition":{condition}}}"#
    )
}
