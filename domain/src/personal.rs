//! Fields that hold personal data: phone numbers, names, contact data, what was said.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The placeholder for a personal text: readers without a key see it, and once the person is erased, all readers see it.
pub const ERASED: &str = "erased";

/// A value about a person. Its `Debug` prints no content, so that no log line can reveal it; reading the content is explicit.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Personal<T>(T);

impl<T> Personal<T> {
    pub const fn new(value: T) -> Self {
        Self(value)
    }

    /// The content, for storage, for the person's own company, or for dialing; never for logs.
    pub const fn reveal(&self) -> &T {
        &self.0
    }

    pub fn into_inner(self) -> T {
        self.0
    }
}

impl<T> From<T> for Personal<T> {
    fn from(value: T) -> Self {
        Self(value)
    }
}

impl<T> fmt::Debug for Personal<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(personal)")
    }
}

#[cfg(test)]
mod tests {
    use super::Personal;

    #[test]
    fn debug_prints_no_content() {
        assert_eq!(format!("{:?}", Some(Personal::new("+12025550100"))), "Some((personal))");
    }
}
