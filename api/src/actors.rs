//! The names of actors: events and the audit store the ids of users, answers show their addresses.

use std::collections::HashSet;

use serde_json::Value;
use uuid::Uuid;

use crate::{problem::Problem, state::App};

/// Names the users among these actors of a company by their addresses. The addresses are personal data: events do not hold them, and an actor
/// whose address cannot be decrypted stays without a name.
pub async fn name_users<'a>(app: &App, company_id: Uuid, actors: impl Iterator<Item = &'a mut Value>) -> Result<(), Problem> {
    let users: Vec<(Uuid, &mut Value)> = actors.filter_map(|actor| Some((unnamed_user(actor)?, actor))).collect();
    let ids: HashSet<Uuid> = users.iter().map(|(id, _)| *id).collect();
    if ids.is_empty() {
        return Ok(());
    }
    let mut read = app.services.read(company_id, &[projections::users::READ_MODEL], None).await?;
    let ids: Vec<_> = ids.into_iter().collect();
    let addresses = projections::users::addresses(&mut read, app.store.persons(), company_id, &ids).await?;
    for (id, actor) in users {
        if let (Some(address), Some(actor)) = (addresses.get(&id), actor.as_object_mut()) {
            actor.insert("name".to_owned(), address.clone().into());
        }
    }
    Ok(())
}

/// The id of a user without a name.
fn unnamed_user(actor: &Value) -> Option<Uuid> {
    let is_unnamed = actor["kind"] == "user" && actor["name"].is_null();
    actor["id"].as_str().filter(|_| is_unnamed)?.parse().ok()
}
