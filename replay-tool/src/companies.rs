//! The company of `--company`: an id or a slug.

use std::str::FromStr;

use anyhow::Context as _;
use eventstore::Pool;
use uuid::Uuid;

use crate::WrongUse;

#[derive(Clone, Debug)]
pub enum NamedCompany {
    Id(Uuid),
    Slug(String),
}

impl FromStr for NamedCompany {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Uuid::try_parse(text).map_or_else(|_| Self::Slug(text.to_owned()), Self::Id))
    }
}

impl NamedCompany {
    /// The id. Wrong use if there is no such company.
    pub async fn find(&self, owner: &Pool) -> anyhow::Result<Uuid> {
        let (id, slug) = match self {
            Self::Id(id) => (Some(*id), None),
            Self::Slug(slug) => (None, Some(slug.as_str())),
        };
        let found = sqlx::query_scalar!("select company_id from companies where company_id = $1 or slug = $2", id, slug);
        match found.fetch_optional(owner).await.context("companies")? {
            Some(id) => Ok(id),
            None => {
                let name = id.map(|id| id.to_string()).or(slug.map(str::to_owned)).unwrap_or_default();
                Err(WrongUse(format!("there is no company {name:?}; `export companies` lists them with ids and slugs")).into())
            }
        }
    }
}

/// The company of `--company`, if it is given.
pub async fn find(company: Option<&NamedCompany>, owner: &Pool) -> anyhow::Result<Option<Uuid>> {
    match company {
        Some(company) => Ok(Some(company.find(owner).await?)),
        None => Ok(None),
    }
}
