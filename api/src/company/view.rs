use domain::company::CompanyProfile;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

#[derive(Serialize, ToSchema)]
pub struct RegisteredUser {
    pub id: Uuid,
    pub email: String,
    pub role: String,
}

#[derive(Serialize, ToSchema)]
pub struct CompanyView {
    pub id: Uuid,
    pub name: String,
    pub slug: String,
    pub email: Option<String>,
}

impl CompanyView {
    pub fn new(id: Uuid, profile: CompanyProfile) -> Self {
        Self { id, name: profile.name, slug: profile.slug, email: profile.email }
    }
}
