//! Invariants of the source code.

use std::{collections::BTreeSet, fs, path::Path};

use domain::Fact;
use serde_json::Value;

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// The workspace crates in a crate's manifest under `[dependencies]`.
fn dependencies(krate: &str) -> BTreeSet<String> {
    let manifest = fs::read_to_string(root().join(krate).join("Cargo.toml")).unwrap();
    let section = manifest.split("[dependencies]").nth(1).unwrap().split("\n[").next().unwrap();
    let names = section.lines().filter_map(|line| line.split(['.', ' ', '=']).next());
    let ours = ["domain", "eventstore", "projections", "services", "workers", "newvoice-api", "replay-tool"];
    names.filter(|name| ours.contains(name)).map(str::to_owned).collect()
}

#[test]
fn arrows_between_crates_run_one_way() {
    let allowed: [(&str, &[&str]); 7] = [
        ("domain", &[]),
        ("eventstore", &["domain"]),
        ("projections", &["domain", "eventstore"]),
        ("services", &["domain", "eventstore", "projections"]),
        ("workers", &["domain", "eventstore", "projections", "services"]),
        ("api", &["domain", "eventstore", "projections", "services", "workers"]),
        ("replay-tool", &["domain", "eventstore", "projections", "services"]),
    ];
    for (krate, may) in allowed {
        let found = dependencies(krate);
        assert!(found.iter().all(|name| may.contains(&name.as_str())), "{krate} depends on {found:?}");
    }
}

/// A use case does not know HTTP.
#[test]
fn use_cases_know_no_edge() {
    let manifest = fs::read_to_string(root().join("services/Cargo.toml")).unwrap();
    for name in ["axum", "http", "hyper", "tower", "utoipa"] {
        assert!(!manifest.lines().any(|line| line.split(['.', ' ', '=']).next() == Some(name)), "services depend on {name}");
    }
}

/// All Rust sources below a folder.
pub fn sources(dir: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

/// The functions that the domain must not call are in its `clippy.toml`; clippy checks them with the compiler's name resolution. This test
/// checks that the file exists, and that no dependency provides other random numbers or clocks.
#[test]
fn the_domain_asks_no_clock_and_draws_no_random_numbers() {
    let forbidden = fs::read_to_string(root().join("domain/clippy.toml")).unwrap();
    for method in ["chrono::Utc::now", "std::time::SystemTime::now", "std::time::Instant::now", "uuid::Uuid::new_v4", "uuid::Uuid::now_v7"]
    {
        assert!(forbidden.contains(&format!("path = \"{method}\"")), "{method} is not forbidden");
    }
    let manifest = fs::read_to_string(root().join("domain/Cargo.toml")).unwrap();
    let dependencies = manifest.split("[dependencies]").nth(1).unwrap().split("\n[").next().unwrap();
    for name in ["rand", "fastrand", "getrandom", "tokio", "sqlx"] {
        assert!(!dependencies.lines().any(|line| line.split(['.', ' ', '=']).next() == Some(name)), "the domain depends on {name}");
    }
}

/// The log gets categories as text. A literal that begins a stream's name would make the log depend on an aggregate.
#[test]
fn the_log_names_no_aggregate() {
    let categories: BTreeSet<&str> = Fact::catalogue().into_iter().map(|(category, ..)| category).collect();
    assert!(categories.contains("person") && categories.len() > 5);
    let mut files = Vec::new();
    sources(&root().join("eventstore/src"), &mut files);
    for file in &files {
        let text = fs::read_to_string(file).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap();
        for category in &categories {
            // In a pattern of LIKE, a backslash is in front of each underscore.
            for name in [category.to_string(), category.replace('_', "\\_")] {
                for literal in [format!("'{name}-"), format!("'{name}'"), format!("\"{name}\""), format!("\"{name}-")] {
                    assert!(!code.contains(&literal), "{} names {literal}", file.display());
                }
            }
            assert!(
                !code.contains(&format!("domain::{category}::")) || *category == "person",
                "{} uses domain::{category}",
                file.display()
            );
        }
    }
}

/// There is one golden file per stored event type and schema version, from 1 to the present version: events of all earlier versions must
/// stay readable permanently. A payload contains no floating-point numbers.
#[test]
fn every_stored_event_type_has_its_golden_files() {
    let dir = root().join("domain/golden");
    let mut expected = BTreeSet::new();
    // A company's events are selected by type, and shown by category.
    let types: BTreeSet<_> = Fact::catalogue().into_iter().map(|(_, event_type, _)| event_type).collect();
    assert_eq!(types.len(), Fact::catalogue().len(), "an event type belongs to one category");
    for (category, event_type, present) in Fact::catalogue() {
        for version in 1..=present {
            let path = dir.join(category).join(format!("{event_type}.v{version}.json"));
            let text = fs::read_to_string(&path).unwrap_or_else(|_| panic!("{} is missing", path.display()));
            let payload: Value = serde_json::from_str(&text).unwrap();
            assert!(no_floats(&payload), "{} has a floating-point number", path.display());
            let personal = Fact::personal_fields(category, event_type).iter();
            let personal =
                personal.filter(|field| version == present && payload.pointer(field).is_some_and(|value| !value.is_null())).count();
            let fact = Fact::decode(category, event_type, version, &text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            // The personal data of all versions must be in the fields that hold it in the present version.
            let mut bound = Fact::bound_fields(category, event_type).iter();
            assert!(bound.all(|field| payload.pointer(field).is_some()), "{}: a bound field is missing", path.display());
            // Fields that no answer shows are encrypted, and no other fields are.
            let hidden = format!("{fact:?}").matches("(personal)").count();
            assert!(version < present || hidden == personal, "{}: {hidden} personal fields, {personal} are declared", path.display());
            let written = fact.encode().unwrap();
            assert!(version < present || written == (event_type.to_owned(), payload), "{} is not what is written today", path.display());
            expected.insert(path);
        }
    }
    let categories = fs::read_dir(&dir).unwrap().flat_map(|category| fs::read_dir(category.unwrap().path()).unwrap());
    let found: BTreeSet<_> = categories.map(|entry| entry.unwrap().path()).collect();
    assert_eq!(found, expected, "a golden file of a type or version that nobody knows any more");
}

fn no_floats(value: &Value) -> bool {
    match value {
        Value::Number(number) => !number.is_f64(),
        Value::Array(items) => items.iter().all(no_floats),
        Value::Object(object) => object.values().all(no_floats),
        _ => true,
    }
}

/// The HTTP contract: every operation, by method and path, and its lowest role; `operator` is a right in addition to the roles.
pub const CONTRACT: &str = "
POST /auth/register public
POST /auth/login public
GET /auth/me viewer
POST /auth/refresh public
POST /auth/logout viewer
POST /auth/accept-invitation public
PUT /auth/password viewer
POST /users admin
GET /users auditor
GET /users/{id} auditor
PUT /users/{id} admin
POST /users/{id}/invitation admin
POST /persons/erase admin
GET /audit auditor
POST /auth/ticket viewer
POST /api-keys admin
GET /api-keys admin
DELETE /api-keys/{id} admin
GET /company viewer
PUT /company admin
POST /skillbases manager
GET /skillbases viewer
GET /skillbases/{id} viewer
PUT /skillbases/{id} manager
DELETE /skillbases/{id} manager
GET /skillbases/{id}/versions viewer
GET /skillbases/{id}/versions/{n} viewer
GET /skillbases/{id}/for-call viewer
GET /skillbases/{id}/prompt viewer
GET /skillbases/{id}/scenario viewer
GET /skillbases/{id}/tools viewer
POST /campaigns manager
GET /campaigns viewer
GET /campaigns/{id} viewer
PUT /campaigns/{id} manager
DELETE /campaigns/{id} manager
POST /campaigns/{id}/clone manager
POST /campaigns/{id}/start manager
POST /campaigns/{id}/finish manager
POST /campaigns/{id}/retry manager
POST /campaigns/{id}/tasks manager
POST /campaigns/{id}/pause manager
POST /campaigns/{id}/resume manager
POST /campaigns/{id}/call-list manager
GET /campaigns/{id}/imports viewer
GET /campaigns/{id}/tasks viewer
GET /campaigns/{id}/stats viewer
GET /campaigns/{id}/history viewer
POST /campaigns/{id}/tasks/claim agent
GET /tasks/{id} viewer
GET /tasks/{id}/history viewer
POST /tasks/{id}/cancel manager
POST /tasks/{id}/complete agent
POST /tasks/{id}/fail agent
POST /calls agent
GET /calls viewer
GET /calls/{id} viewer
GET /calls/{id}/history viewer
POST /calls/{id}/turns agent
POST /calls/{id}/end agent
GET /campaigns/{id}/turns viewer
GET /analytics/calls viewer
GET /analytics/calls/{id}/costs viewer
GET /analytics/calls/{id}/metrics viewer
GET /analytics/calls/{id}/turns viewer
GET /analytics/metrics viewer
GET /analytics/costs viewer
GET /analytics/overview viewer
GET /analytics/ws/calls/{id} viewer
GET /events viewer
GET /events/stream viewer
GET /price-lists viewer
GET /price-lists/{id} viewer
POST /price-lists admin
POST /price-lists/{id}/withdraw admin
POST /price-lists/what-if viewer
GET /price-lists/estimate viewer
GET /price-lists/presets viewer
GET /projections viewer
POST /projections/{name}/rebuild operator
POST /projections/{name}/restore operator
POST /projections/{name}/retry operator
GET /workers operator
GET /workers/{name}/failures operator
POST /workers/{name}/retry operator
";

#[test]
fn the_openapi_document_lists_the_whole_contract_and_nothing_else() {
    let document = serde_json::to_value(newvoice_api::router::openapi()).unwrap();
    let mut found = BTreeSet::new();
    for (path, operations) in document["paths"].as_object().unwrap() {
        found.extend(operations.as_object().unwrap().keys().map(|method| format!("{} {path}", method.to_uppercase())));
    }
    let lines = CONTRACT.lines().filter_map(|line| line.rsplit_once(' '));
    let expected: BTreeSet<String> = lines.map(|(operation, _)| operation.to_owned()).collect();
    assert_eq!(found.difference(&expected).collect::<Vec<_>>(), Vec::<&String>::new(), "not in the contract");
    assert_eq!(expected.difference(&found).collect::<Vec<_>>(), Vec::<&String>::new(), "not in the document");
}

#[test]
fn every_operation_says_what_it_answers() {
    let document = serde_json::to_value(newvoice_api::router::openapi()).unwrap();
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            let responses = operation["responses"].as_object().unwrap();
            assert!(responses.keys().any(|status| status.starts_with(['1', '2'])), "{method} {path}");
            assert_eq!(responses["default"]["content"]["application/problem+json"]["schema"]["$ref"], "#/components/schemas/Problem");
            let refusals = responses.iter().filter(|(status, _)| status.starts_with(['4', '5']));
            assert!(refusals.into_iter().all(|(_, r)| r["content"]["application/json"].is_null()), "{method} {path}");
            let named = |name: &str| operation["parameters"].as_array().is_some_and(|all| all.iter().any(|p| p["name"] == name));
            // Answers to operations that issue credentials, or that end the session of the request, are not stored.
            let keeps_none = ["/auth/login", "/auth/refresh", "/auth/ticket", "/auth/accept-invitation", "/auth/logout"];
            assert_eq!(named("Idempotency-Key"), method == "post" && !keeps_none.contains(&path.as_str()), "{method} {path}");
        }
    }
    let turns = &document["paths"]["/calls/{id}/turns"]["post"]["requestBody"]["content"]["application/json"]["schema"]["$ref"];
    assert!(document["components"]["schemas"][turns.as_str().unwrap().rsplit('/').next().unwrap()]["oneOf"].is_array());
}

#[tokio::test]
async fn paths_and_methods_that_are_not_there_are_problems_too() {
    let platform = support::Platform::start().await;
    let admin = platform.admin().await;
    admin.get("/nothing").await.problem(404);
    let wrong = admin.put("/campaigns", &Value::Null).await.problem(405);
    assert!(wrong.header("allow").is_some_and(|allow| allow.contains("GET") && allow.contains("POST")));
    admin.get("/campaigns/not-a-uuid").await.problem(400);
    let text = admin.request(reqwest::Method::POST, "/campaigns").header("content-type", "text/plain").body("x");
    admin.send(text).await.problem(415);
    let broken = admin.request(reqwest::Method::POST, "/campaigns").header("content-type", "application/json").body("{");
    admin.send(broken).await.problem(400);
    let not_utf8 = admin
        .request(reqwest::Method::POST, "/campaigns")
        .header("content-type", "application/json")
        .body(b"{\"name\": \"\xff\"}".to_vec());
    admin.send(not_utf8).await.problem(400);
    let large = admin.request(reqwest::Method::POST, "/campaigns").header("content-type", "application/json").body(vec![b' '; 40 << 20]);
    admin.send(large).await.problem(413);
    // A field that is there twice, a NUL character and a body that has no effect are refused by name.
    let send = async |path: &str, body: &'static str| {
        let request = admin.request(reqwest::Method::POST, path).header("content-type", "application/json").body(body);
        admin.send(request).await
    };
    assert_eq!(send("/campaigns", r#"{"name": "A", "skillbase_id": null, "name": "B"}"#).await.problem(422).paths(), ["name"]);
    assert_eq!(
        send("/skillbases", r#"{"name": "A", "slug": "a", "config": {"agent": {"x": ["\u0000"]}}}"#).await.problem(422).paths(),
        ["config.agent.x[0]"]
    );
    let id = uuid::Uuid::new_v4();
    assert!(send(&format!("/campaigns/{id}/start"), "{\"x\": 1}").await.problem(400)["detail"].as_str().unwrap().contains("no body"));
    for nothing in ["", "{}", "null"] {
        send(&format!("/campaigns/{id}/start"), nothing).await.problem(404);
    }
    for path in ["/healthz", "/readyz", "/metrics", "/openapi.json", "/docs/"] {
        assert_eq!(reqwest::get(format!("{}{path}", platform.base())).await.unwrap().status(), 200, "{path}");
    }
    // The paths of the original systems give the same answers.
    let old = reqwest::Client::new()
        .get(format!("{}/api/campaigns", platform.base()))
        .bearer_auth(admin.token.as_ref().unwrap())
        .send()
        .await
        .unwrap();
    assert_eq!(old.status(), 200);
    platform.stop().await;
}
