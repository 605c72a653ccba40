//! Parameters for how recent an answer must be, or for which time it is requested.

use axum::{extract::FromRequestParts, http::request::Parts};
use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use domain::validation::Invalid;
use projections::ReadModel;
use serde::Deserialize;
use services::Read;
use utoipa::IntoParams;
use uuid::Uuid;

use crate::{extract::QueryOf, problem::Problem, state::App, times::WrittenTime};

/// `?min_position=`: the log position that the read model must have reached.
#[derive(Clone, Copy, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Fresh {
    /// Wait until the read model has reached this log position, at most 5 s.
    pub min_position: Option<i64>,
}

impl<S: Send + Sync> FromRequestParts<S> for Fresh {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let QueryOf(fresh) = QueryOf::<Self>::from_request_parts(parts, state).await?;
        if fresh.min_position.is_some_and(|position| position < 0) {
            return Err(Problem::bad_request("min_position must not be negative"));
        }
        Ok(fresh)
    }
}

impl Fresh {
    /// For reads from the log itself: returns the end of the log. A position beyond it is refused.
    pub async fn of_log(&self, app: &App) -> Result<i64, Problem> {
        let position = app.store.last_position().await?;
        match self.min_position.filter(|wanted| *wanted > position) {
            Some(wanted) => Err(Problem::unavailable(format!("min_position {wanted} is beyond the log, which ends at {position}"))),
            None => Ok(position),
        }
    }

    /// Waits for the read models and begins to read them.
    pub async fn read(&self, app: &App, company_id: Uuid, models: &[ReadModel]) -> Result<Read, Problem> {
        Ok(app.services.read(company_id, models, self.min_position).await?)
    }

    /// Waits for the read models and begins to read single rows by key.
    pub async fn read_by_key(&self, app: &App, company_id: Uuid, models: &[ReadModel]) -> Result<Read, Problem> {
        Ok(app.services.read_by_key(company_id, models, self.min_position).await?)
    }

    /// Waits for the read models and begins to read them in one snapshot.
    pub async fn snapshot(&self, app: &App, company_id: Uuid, models: &[ReadModel]) -> Result<Read, Problem> {
        Ok(app.services.snapshot(company_id, models, self.min_position).await?)
    }

    /// Waits for the read models; returns the position of the slowest one.
    pub async fn wait(&self, app: &App, models: &[ReadModel]) -> Result<i64, Problem> {
        Ok(app.services.wait_for(models, self.min_position).await?)
    }
}

/// `?as_of=`: the state at a given time, from the events that were recorded until then.
pub struct AsOf(pub Option<DateTime<Utc>>);

/// The parameters that [`AsOf`] reads.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct AsOfParams {
    /// The state at this time, by recorded_at; at most a minute ahead of the platform's clock; a date means the beginning of the day, UTC
    #[param(value_type = Option<String>, example = "2026-11-21T12:00:00Z")]
    as_of: Option<WrittenTime>,
}

impl<S: Send + Sync> FromRequestParts<S> for AsOf {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let QueryOf(AsOfParams { as_of }) = QueryOf::from_request_parts(parts, state).await?;
        let as_of = as_of.map(|time| time.in_zone(Tz::UTC));
        let mut invalid = Invalid::default();
        invalid.time("as_of", as_of);
        invalid.into_result()?;
        // The caller's clock may be ahead.
        if as_of.is_some_and(|as_of| as_of > eventstore::now() + TimeDelta::minutes(1)) {
            return Err(Problem::bad_request("as_of must not be in the future"));
        }
        Ok(Self(as_of))
    }
}
