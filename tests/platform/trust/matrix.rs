//! Tests every operation of the OpenAPI document with every kind of credential.

use std::collections::BTreeMap;

use chrono::{TimeDelta, Utc};
use domain::role::Role;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use reqwest::Method;
use serde_json::{Value, json};
use support::{Client, Platform};
use uuid::Uuid;

use crate::architecture::CONTRACT;

/// Each role with the roles that have its rights; the operator is also admin of a company.
const ROLES: [(&str, &[&str]); 6] = [
    ("viewer", &["viewer", "auditor", "agent", "manager", "admin", "operator"]),
    ("auditor", &["auditor", "admin", "operator"]),
    ("agent", &["agent", "manager", "admin", "operator"]),
    ("manager", &["manager", "admin", "operator"]),
    ("admin", &["admin", "operator"]),
    ("operator", &["operator"]),
];

pub(super) struct Operation {
    pub method: Method,
    pub path: String,
    /// The roles that are allowed; `None` if no credential is needed.
    allowed: Option<&'static [&'static str]>,
}

/// The operations of the document, each with its expectation from the contract: an operation without one fails.
pub(super) fn operations() -> Vec<Operation> {
    let expected: BTreeMap<&str, &str> = CONTRACT.lines().filter_map(|line| line.rsplit_once(' ')).collect();
    let document = serde_json::to_value(newvoice_api::router::openapi()).unwrap();
    let mut found = Vec::new();
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            let name = format!("{} {path}", method.to_uppercase());
            let expected = *expected.get(name.as_str()).unwrap_or_else(|| panic!("nobody says who may {name}"));
            let declared = operation["security"][0]["bearer"][0].as_str().unwrap_or("public");
            assert_eq!(declared, expected, "{name}");
            let allowed = ROLES.into_iter().find(|(role, _)| *role == expected).map(|(_, allowed)| allowed);
            found.push(Operation { method: method.to_uppercase().parse().unwrap(), path: path.clone(), allowed });
        }
    }
    found
}

/// The path with every parameter filled in.
fn filled(path: &str, id: &str) -> String {
    path.replace("{id}", id).replace("{name}", "nothing").replace("{n}", "1")
}

async fn status(client: &Client, operation: &Operation, path: &str) -> u16 {
    let request = client.request(operation.method.clone(), path);
    let request = if [Method::POST, Method::PUT].contains(&operation.method) { request.json(&json!({})) } else { request };
    // Streams answer before they end.
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    if status >= 400 {
        assert_eq!(response.headers()["content-type"], "application/problem+json", "{} {path}", operation.method);
        let problem: Value = response.json().await.unwrap();
        assert_eq!(problem["status"], status);
    }
    status
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_operation_demands_a_credential_that_is_good_enough() {
    let platform = Platform::start().await;
    let (app, admin) = (platform.app(), platform.admin().await);
    let claims = app.services.identity.tokens.verify(admin.token.as_ref().unwrap()).unwrap();
    let token = |session, at| app.services.identity.tokens.issue(claims.sub, claims.company_id, Role::Admin, session, at).unwrap().0;
    let genuine = admin.token.clone().unwrap();
    let (head, body) = (genuine.split('.').next().unwrap(), genuine.split('.').nth(1).unwrap());
    let symmetric = {
        let mut header = Header::new(Algorithm::HS256);
        header.kid = jsonwebtoken::decode_header(&genuine).unwrap().kid;
        let payload: Value = json!({"sub": claims.sub, "company_id": claims.company_id, "role": "admin", "sid": claims.sid, "iss": "newvoice",
                                    "aud": "newvoice-api", "iat": 1, "nbf": 1, "exp": 9_999_999_999_i64, "jti": Uuid::nil()});
        encode(&header, &payload, &EncodingKey::from_secret(b"public")).unwrap()
    };
    let revoked = admin.post("/api-keys", &json!({"name": "gone", "role": "admin"})).await.expect(201);
    admin.with_token(revoked["key"].as_str().unwrap()).get("/campaigns").await.expect(200);
    admin.delete(&format!("/api-keys/{}", revoked.id())).await.expect(204);
    let forged = format!("{head}.{body}.{}", "A".repeat(86));
    let none = format!("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{body}.");
    let bad = [
        ("none at all", None),
        ("empty", Some(String::new())),
        ("malformed", Some("not a token".to_owned())),
        ("expired", Some(token(claims.sid, Utc::now() - TimeDelta::days(1)))),
        ("not valid yet", Some(token(claims.sid, Utc::now() + TimeDelta::days(1)))),
        ("of a session that ended", Some(token(Uuid::now_v7(), Utc::now()))),
        ("with another signature", Some(forged)),
        ("with the algorithm none", Some(none)),
        ("signed with a symmetric key", Some(symmetric)),
        ("an unknown key", Some(format!("nvk_{}", "0".repeat(64)))),
        ("a revoked key", Some(revoked["key"].as_str().unwrap().to_owned())),
    ];
    let mut by_role = BTreeMap::new();
    for role in ["viewer", "auditor", "agent", "manager", "admin"] {
        let issued = admin.post("/api-keys", &json!({"name": role, "role": role})).await.expect(201);
        by_role.insert(role, admin.with_token(issued["key"].as_str().unwrap()));
    }
    let mut checked = 0;
    for operation in operations() {
        let path = filled(&operation.path, &Uuid::new_v4().to_string());
        let name = format!("{} {path}", operation.method);
        let Some(allowed) = operation.allowed else {
            // A credential that is not needed has no effect.
            let statuses = [status(&platform.anonymous(), &operation, &path).await, status(&admin, &operation, &path).await];
            assert!(statuses.iter().all(|status| *status == 422), "{name}: {statuses:?}");
            continue;
        };
        for (what, token) in &bad {
            let client = Client::new(&platform.base(), token.as_deref());
            assert_eq!(status(&client, &operation, &path).await, 401, "{name} with a token {what}");
            checked += 1;
        }
        // A separate user for each operation: some of them end the session of the request.
        by_role.insert("operator", platform.operator().await);
        for (role, client) in &by_role {
            let may = allowed.contains(role);
            let found = status(client, &operation, &path).await;
            assert!(found < 500 && found != 401 && (found == 403) != may, "{name} as {role}: {found}");
            checked += 1;
        }
    }
    assert!(checked > 900, "{checked}");
    platform.stop().await;
}

/// The router accepts exactly the operations of the document.
#[tokio::test]
async fn the_router_and_the_document_list_the_same_routes() {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    let mut methods: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for operation in operations() {
        let known = methods.entry(operation.path).or_default();
        known.push(operation.method.to_string());
        if operation.method == Method::GET {
            known.push("HEAD".to_owned());
        }
    }
    for (path, mut expected) in methods {
        let answer = admin.send(admin.request(Method::PATCH, &filled(&path, &Uuid::new_v4().to_string()))).await.problem(405);
        let mut allowed: Vec<_> = answer.header("allow").unwrap().split(',').map(|method| method.trim().to_owned()).collect();
        expected.sort();
        allowed.sort();
        assert_eq!(allowed, expected, "{path}");
    }
    // Routes are declared with their description, except these, which are not operations of the API.
    let mut bare = Vec::new();
    for file in ["router", "operations", "live/sse", "live/ws", "edge/mod"] {
        let text = std::fs::read_to_string(format!("{}/../api/src/{file}.rs", env!("CARGO_MANIFEST_DIR"))).unwrap();
        bare.extend(text.split(".route(\"").skip(1).map(|rest| rest.split('"').next().unwrap().to_owned()));
    }
    assert_eq!(bare, ["/", "/healthz", "/readyz", "/metrics"]);
    platform.stop().await;
}

/// A misspelt filter would otherwise give all rows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_operation_refuses_a_query_parameter_that_it_does_not_have() {
    let platform = Platform::start().await;
    let operator = platform.operator().await;
    let mut refused = 0;
    for operation in operations() {
        let path = format!("{}?surprise=1", filled(&operation.path, &Uuid::new_v4().to_string()));
        let problem = operator.send(operator.request(operation.method.clone(), &path).json(&json!({}))).await.problem(400);
        assert!(problem["detail"].as_str().unwrap().contains("\"surprise\""), "{} {path}: {}", operation.method, problem.body);
        refused += 1;
    }
    assert!(refused > 50, "{refused}");
    platform.stop().await;
}
