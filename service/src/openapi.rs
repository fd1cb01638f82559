//! The contract for machines: `OpenAPI` 3.1, made from the table of routes and the schemas of what travels; and a page that shows
//! it without a network.

use crate::guard::{ARROW, JSON, Scope};
use crate::routes::{Content, Route, problem, table};
use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};
use std::sync::OnceLock;

const HTML: &str = "text/html; charset=utf-8";

/// The document as it is served and checked in.
#[must_use]
pub fn text() -> &'static str {
    static TEXT: OnceLock<String> = OnceLock::new();
    TEXT.get_or_init(|| format!("{:#}\n", document()))
}

/// `/docs`.
pub fn page() -> Router {
    let asset = |kind: &'static str, text: &'static str| get(move || async move { ([(CONTENT_TYPE, kind)], text) });
    Router::new()
        .route("/docs", asset(HTML, include_str!("docs_page/index.html")))
        .route("/docs/page.css", asset("text/css; charset=utf-8", include_str!("docs_page/page.css")))
        .route("/docs/page.js", asset("text/javascript; charset=utf-8", include_str!("docs_page/page.js")))
}

fn document() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    });
    let mut generator = settings.into_generator();
    let wrong = json!({"application/problem+json": {"schema": problem(&mut generator)}});
    let mut paths = Map::new();
    for route in table() {
        let of_path = paths.entry(route.path).or_insert_with(|| json!({}));
        of_path[route.method.as_str().to_lowercase()] = operation(&route, &mut generator);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "curate", "version": env!("CARGO_PKG_VERSION"), "license": {"name": "Apache-2.0 OR MIT"},
            "description": "Batches out, signals in, step by step. docs/http.md tells the same in words.",
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": generator.take_definitions(true),
            "responses": {"Problem": {"description": "What went wrong, with a code, a hint and the request's id.", "content": wrong}},
            "securitySchemes": {"token": {
                "type": "http", "scheme": "bearer",
                "description": "A token of 'curate serve token add'. Scope read looks, feed also changes, admin may do everything.",
            }},
        },
    })
}

fn operation(route: &Route, generator: &mut SchemaGenerator) -> Value {
    let mut operation = json!({
        "operationId": operation_id(route), "summary": route.about, "tags": [tag(route.path)], "x-curate-scope": route.scope.name(),
        "parameters": path_parameters(route.path).chain(query_parameters(route)).collect::<Vec<_>>(),
        "responses": responses(route, generator),
        "security": if route.scope == Scope::Open { json!([]) } else { json!([{"token": [route.scope.name()]}]) },
    });
    if let Some(content) = content(route.body, generator) {
        operation["requestBody"] = json!({"required": true, "content": content});
    }
    operation
}

/// `post_sessions_id_propose`.
fn operation_id(route: &Route) -> String {
    let parts = route.path.trim_start_matches("/v1").split('/').filter(|part| !part.is_empty());
    let name = parts.map(|part| part.trim_matches(['{', '}']).replace('.', "_")).collect::<Vec<_>>().join("_");
    format!("{}_{name}", route.method.as_str().to_lowercase())
}

fn tag(path: &str) -> &'static str {
    match path {
        path if path.starts_with("/v1/sessions") => "Sessions",
        path if path.starts_with("/v1/jobs") => "Jobs",
        _ => "Server",
    }
}

fn path_parameters(path: &str) -> impl Iterator<Item = Value> {
    let names = path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    names.map(|name| {
        let schema = match name {
            "id" => json!({"type": "string", "pattern": "^[A-Za-z0-9._-]{1,64}$"}),
            _ => json!({"type": "integer", "minimum": 0}),
        };
        json!({"name": name, "in": "path", "required": true, "schema": schema})
    })
}

fn query_parameters(route: &Route) -> impl Iterator<Item = Value> {
    route.query.iter().map(|(name, about)| {
        let kind = if name.ends_with("_s") { "number" } else { "integer" };
        json!({"name": name, "in": "query", "description": about, "schema": {"type": kind, "minimum": 0}})
    })
}

/// Media types of a body or an answer; nothing where there is none.
fn content(content: Content, generator: &mut SchemaGenerator) -> Option<Value> {
    let stream = json!({"description": "An Arrow IPC stream, its buffers not compressed."});
    match content {
        Content::Empty => None,
        Content::Json(schema) => Some(json!({JSON: {"schema": schema(generator)}})),
        Content::JsonOrArrow(schema) => Some(json!({JSON: {"schema": schema(generator)}, ARROW: {"schema": stream}})),
        Content::Free => Some(json!({JSON: {"schema": {"type": "object"}}})),
        Content::Other(kind) => Some(json!({kind: {"schema": {}}})),
    }
}

fn responses(route: &Route, generator: &mut SchemaGenerator) -> Value {
    let (status, given) = route.answer;
    let mut good = json!({"description": "Done."});
    if let Some(content) = content(given, generator) {
        good["content"] = content;
    }
    let mut all: Vec<(u16, Value)> =
        failures(route).map(|status| (status, json!({"$ref": "#/components/responses/Problem"}))).collect();
    let also = match (status, given) {
        (201, _) => Some((200, "It was there already.")),
        (200, Content::Other("application/octet-stream")) => Some((206, "A range of it.")),
        _ => None,
    };
    all.extend(also.map(|(status, about)| (status, json!({"description": about, "content": good["content"]}))));
    all.push((status, good));
    all.sort_by_key(|(status, _)| *status);
    all.into_iter().map(|(status, answer)| (status.to_string(), answer)).collect::<Map<_, _>>().into()
}

/// Statuses of errors: those of every route, those of its kind, and its own.
fn failures(route: &Route) -> impl Iterator<Item = u16> {
    let always: &[u16] = &[400, 403, 429, 503];
    let guarded: &[u16] = if route.scope == Scope::Open { &[] } else { &[401] };
    let named: &[u16] = if route.path.contains('{') { &[404] } else { &[] };
    // a session that failed, and one that is being prepared
    let inside: &[u16] = if route.path.starts_with("/v1/sessions/{id}/") { &[409, 425] } else { &[] };
    let fed: &[u16] = if matches!(route.body, Content::Empty) { &[] } else { &[408, 413, 415, 422] };
    let kept: &[u16] = if route.method == axum::http::Method::GET { &[] } else { &[507] };
    let mut all = [always, guarded, named, inside, fed, kept, route.fails].concat();
    all.sort_unstable();
    all.dedup();
    all.into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_document_checked_in_is_this_one() {
        let kept = include_str!("../../docs/openapi.json");
        assert!(kept == text(), "the contract has changed: renew it with 'just openapi', and say so in CHANGELOG.md");
    }

    #[test]
    fn every_route_is_there_once_and_every_reference_leads_somewhere() {
        let document = document();
        let (mut ids, mut operations) = (BTreeSet::new(), 0);
        for path in document["paths"].as_object().unwrap().values() {
            for operation in path.as_object().unwrap().values() {
                operations += 1;
                ids.insert(operation["operationId"].as_str().unwrap());
            }
        }
        assert_eq!((operations, ids.len()), (table().len(), table().len()));
        let mut seen = 0;
        references(&document, &mut |name| {
            seen += 1;
            assert!(document.pointer(&name[1..]).is_some(), "{name}");
        });
        assert!(seen > operations);
    }

    fn references(value: &Value, tell: &mut impl FnMut(&str)) {
        match value {
            Value::Object(map) => {
                map.get("$ref").and_then(Value::as_str).into_iter().for_each(&mut *tell);
                map.values().for_each(|below| references(below, tell));
            }
            Value::Array(list) => list.iter().for_each(|below| references(below, tell)),
            _ => {}
        }
    }
}
