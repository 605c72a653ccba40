use domain::company::CompanyProfile;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

#[derive(Serialize, ToSchema)]
pub struct RegisteredUser {
    /// Id of the user
    pub id: Uuid,
    /// The user's address
    pub email: String,
    /// What the user may do
    pub role: String,
}

#[derive(Serialize, ToSchema)]
pub struct CompanyView {
    /// Id of the company
    pub id: Uuid,
    /// The company's name
    pub name: String,
    /// The company's short name, unique in the installation
    pub slug: String,
    /// The company's address for mail
    pub email: Option<String>,
}

impl CompanyView {
    pub fn new(id: Uuid, profile: CompanyProfile) -> Self {
        Self { id, name: profile.name, slug: profile.slug, email: profile.email }
    }
}
