//! Distinguishes requests under one key: the digest of the caller's role, the query and the body.

use axum::{
    body::Bytes,
    http::{HeaderMap, header},
};
use eventstore::persons::CompanyKey;
use sha2::{Digest, Sha256};

use services::identity::Identity;

use crate::uploads::read_form;

/// The parameter that only says how long to wait: a repeated request may have another one.
const WAIT: &str = "min_position";

/// Digest of the caller's role, the query and the body: a stored answer is only returned to callers who may see it. For a form, the digest covers the
/// names and contents of its fields: clients choose a new boundary for each request, and may change the name or content type of a file.
pub(super) async fn body_hash(
    key: &CompanyKey,
    caller: Option<&Identity>,
    query: Option<&str>,
    headers: &HeaderMap,
    body: &Bytes,
) -> Vec<u8> {
    let role = caller.map(|identity| identity.role.to_string()).unwrap_or_default();
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let form = match multer::parse_boundary(content_type) {
        Ok(boundary) => form_digest(&boundary, body).await.ok(),
        Err(_) => None,
    };
    let mut hash = Sha256::new();
    hash.update(role);
    for (name, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()).filter(|(name, _)| name != WAIT) {
        for part in [name, value] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part.as_bytes());
        }
    }
    match form {
        Some(form) => hash.update(form),
        None => hash.update(body),
    }
    key.request_hash(&hash.finalize()).to_vec()
}

/// Digest of a form's fields: the name and the digest of the content of each field.
async fn form_digest(boundary: &str, body: &Bytes) -> Result<[u8; 32], multer::Error> {
    let mut form = read_form(body, boundary);
    let mut hash = Sha256::new();
    while let Some(mut field) = form.next_field().await? {
        let name = field.name().unwrap_or_default();
        hash.update((name.len() as u64).to_be_bytes());
        hash.update(name);
        let mut content = Sha256::new();
        while let Some(chunk) = field.chunk().await? {
            content.update(&chunk);
        }
        hash.update(content.finalize());
    }
    Ok(hash.finalize().into())
}
