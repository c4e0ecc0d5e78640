//! `/openapi.json`: the API in OpenAPI 3.1, written by hand; tests hold it to the routes and problem codes.

/// The description.
const DOCUMENT: &str = include_str!("openapi.json");

/// The bytes that are served.
#[must_use]
pub fn bytes() -> &'static str {
    DOCUMENT
}

#[cfg(test)]
mod tests {
    use eic_protocol::api::problem::ProblemCode;
    use serde_json::Value;

    use super::*;
    use crate::http::{Admits, ROUTES};

    #[test]
    fn every_route_is_described_with_whom_it_admits_and_no_other() {
        let document: Value = serde_json::from_str(DOCUMENT).unwrap();
        let paths = document["paths"].as_object().unwrap();
        let described: usize = paths
            .values()
            .map(|path| path.as_object().unwrap().len())
            .sum();
        assert_eq!(described, ROUTES.len());
        for route in &ROUTES {
            let operation = &paths[route.path][route.method.as_str().to_lowercase()];
            assert!(operation.is_object(), "{} {}", route.method, route.path);
            let grant = operation["security"][0]["grant"].is_array();
            assert_eq!(grant, route.admits == Admits::Grant, "{}", route.path);
        }
    }

    #[test]
    fn every_problem_code_is_described_and_no_other() {
        let document: Value = serde_json::from_str(DOCUMENT).unwrap();
        let codes = document["components"]["schemas"]["Problem"]["properties"]["code"]["enum"]
            .as_array()
            .unwrap();
        let described: Vec<_> = codes.iter().map(|code| code.as_str().unwrap()).collect();
        let known: Vec<_> = ProblemCode::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(described, known);
    }

    #[test]
    fn every_reference_leads_to_a_schema() {
        let document: Value = serde_json::from_str(DOCUMENT).unwrap();
        for reference in DOCUMENT.split("\"$ref\": \"#").skip(1) {
            let pointer = reference.split('"').next().unwrap();
            assert!(document.pointer(pointer).is_some(), "{pointer}");
        }
    }
}
