//! The names of actors: events and the audit store the ids of users, answers show their addresses.

use std::collections::{HashMap, HashSet};

use domain::role::Role;
use eventstore::ActorKind;
use serde_json::Value;
use services::identity::Identity;
use uuid::Uuid;

use crate::{problem::Problem, state::App};

/// Names the users among these actors by their addresses, for callers who are users of the company or may list its users: an API key of a
/// lower role sees ids. Events do not hold the addresses. An actor whose address cannot be read stays without a name.
pub async fn name_users<'a>(app: &App, caller: &Identity, actors: impl Iterator<Item = &'a mut Value>) {
    if caller.actor.kind != ActorKind::User && !caller.role.includes(Role::Auditor) {
        return;
    }
    let users: Vec<(Uuid, &mut Value)> = actors.filter_map(|actor| Some((unnamed_user(actor)?, actor))).collect();
    let ids: HashSet<Uuid> = users.iter().map(|(id, _)| *id).collect();
    if ids.is_empty() {
        return;
    }
    let addresses = match addresses(app, caller.company_id, &ids.into_iter().collect::<Vec<_>>()).await {
        Ok(addresses) => addresses,
        Err(problem) => {
            tracing::warn!(detail = %problem.detail, "users are not named");
            return;
        }
    };
    for (id, actor) in users {
        if let (Some(address), Some(actor)) = (addresses.get(&id), actor.as_object_mut()) {
            actor.insert("name".to_owned(), address.clone().into());
        }
    }
}

async fn addresses(app: &App, company_id: Uuid, ids: &[Uuid]) -> Result<HashMap<Uuid, String>, Problem> {
    let mut read = app.services.read(company_id, &[projections::users::READ_MODEL], None).await?;
    Ok(projections::users::addresses(&mut read, app.store.persons(), company_id, ids).await?)
}

/// The id of a user without a name.
fn unnamed_user(actor: &Value) -> Option<Uuid> {
    let is_unnamed = actor["kind"] == "user" && actor["name"].is_null();
    actor["id"].as_str().filter(|_| is_unnamed)?.parse().ok()
}
