//! The rights that each route requires, taken from the OpenAPI document. Code that runs before the handler uses them; the handler checks
//! them itself.

use std::collections::HashMap;

use domain::role::Role;
use utoipa::openapi::OpenApi;

use services::identity::Identity;

use super::{Needs as _, Operator};
use crate::documented::operations;

/// The lowest role that each operation requires, or `operator`, by method and path.
pub struct RouteNeeds(HashMap<String, String>);

impl RouteNeeds {
    pub fn of(document: &OpenApi) -> Self {
        let needs = operations(document).into_iter().filter_map(|(action, operation)| {
            let needed = operation["security"][0]["bearer"][0].as_str()?.to_owned();
            Some((action, needed))
        });
        Self(needs.collect())
    }

    /// Whether the operation's handler will refuse the caller. `action` is the method and path.
    pub fn refuse(&self, action: &str, identity: &Identity) -> bool {
        match self.0.get(action).map(|needed| (needed.as_str(), needed.parse::<Role>())) {
            Some((_, Ok(role))) => !identity.role.includes(role),
            Some(("operator", _)) => Operator::check(identity).is_err(),
            Some(_) | None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use eventstore::Actor;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_caller_is_refused_what_needs_a_higher_role() {
        let needs = RouteNeeds::of(&crate::router::openapi());
        let by = |role, is_operator| Identity { company_id: Uuid::nil(), role, actor: Actor::system("test"), session: None, is_operator };
        let (viewer, admin) = (by(Role::Viewer, false), by(Role::Admin, false));
        for (action, viewer_is_refused, admin_is_refused) in [
            ("POST /calls/{id}/turns", true, false),
            ("POST /auth/password", false, false),
            ("POST /auth/register", false, false),
            ("POST /projections/{name}/rebuild", true, true),
            ("POST /unmatched", false, false),
        ] {
            assert_eq!((needs.refuse(action, &viewer), needs.refuse(action, &admin)), (viewer_is_refused, admin_is_refused), "{action}");
        }
        assert!(!needs.refuse("POST /projections/{name}/rebuild", &by(Role::Viewer, true)));
    }
}
