//! Phone numbers in queries.

use domain::phone::to_e164;
use uuid::Uuid;

use crate::{problem::Problem, state::App};

/// The person that a filter by phone number asks for.
pub async fn person_in_query(
    app: &App,
    company_id: Uuid,
    phone_number: Option<&str>,
    raw_query: Option<&str>,
) -> Result<Option<Uuid>, Problem> {
    let Some(text) = phone_number else { return Ok(None) };
    let number = number_in_query(text, raw_query.unwrap_or_default())?;
    // There is no person for a number that was never called, or whose person was erased.
    Ok(Some(app.store.persons().known_by(company_id, &number).await?.unwrap_or_default()))
}

/// Reads a phone number in a query as E.164. There is no campaign whose region applies to national numbers. `raw_query` is the query as the
/// client sent it: a `+` that is not encoded is decoded as a blank, but an encoded blank (`%20`) is not a `+`.
fn number_in_query(text: &str, raw_query: &str) -> Result<String, Problem> {
    let mut values = raw_query.split('&').filter_map(|pair| pair.strip_prefix("phone_number="));
    let is_plus = values.next().is_some_and(|value| value.starts_with('+'));
    let rest = text.strip_prefix(' ').filter(|rest| is_plus && rest.starts_with(|c: char| c.is_ascii_digit()));
    let written = rest.map(|rest| format!("+{rest}"));
    let text = written.as_deref().unwrap_or(text);
    let number = text.trim_start().starts_with('+').then(|| to_e164(text, None).ok()).flatten();
    number.ok_or_else(|| Problem::bad_request("phone_number must be a phone number with + and the country code, e.g. %2B12025550100"))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn numbers_in_queries_have_a_plus() {
        for query in ["%2B12025550100", "+12025550100", "+1+202-555-0100", "+1%20202-555-0100", "%20%2B12025550100", "+%2B12025550100"] {
            assert_eq!(number_of(query).as_deref(), Some("+12025550100"), "{query}");
        }
        let others = ["2025550100", "12025550100", "(202)+555-0100", "00420601123456", "++12025550100", "+", "%20", "", "x"];
        for query in others {
            assert_eq!(number_of(query), None, "{query}");
        }
    }

    #[test]
    fn a_blank_before_a_national_number_is_no_plus() {
        for query in ["%204325550100", "%2012025550100", "%20%204325550100", "4325550100"] {
            assert_eq!(number_of(query), None, "{query}");
        }
    }

    fn number_of(query: &str) -> Option<String> {
        let query = format!("limit=5&phone_number={query}");
        let uri = format!("/analytics/calls?{query}").parse().unwrap();
        let axum::extract::Query(params) = axum::extract::Query::<HashMap<String, String>>::try_from_uri(&uri).unwrap();
        number_in_query(&params["phone_number"], &query).ok()
    }
}
