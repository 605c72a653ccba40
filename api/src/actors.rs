//! The names of actors: events and the audit store the ids of users, answers show their addresses.

use std::collections::{HashMap, HashSet};

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
    let mut rows = projections::users::with_ids(&mut read, company_id, &ids.into_iter().collect::<Vec<_>>()).await?;
    drop(read);
    app.store.persons().reveal(company_id, &mut rows).await?;
    let mut emails = HashMap::new();
    for row in rows {
        let id = row.id();
        let user = row.into_data().map_err(|error| Problem::internal(&error))?;
        emails.insert(id, user.email.into_inner());
    }
    for (id, actor) in users {
        if let (Some(email), Some(actor)) = (emails.get(&id).filter(|email| *email != domain::ERASED), actor.as_object_mut()) {
            actor.insert("name".to_owned(), email.clone().into());
        }
    }
    Ok(())
}

/// The id of a user without a name.
fn unnamed_user(actor: &Value) -> Option<Uuid> {
    let is_unnamed = actor["kind"] == "user" && actor["name"].is_null();
    actor["id"].as_str().filter(|_| is_unnamed)?.parse().ok()
}
