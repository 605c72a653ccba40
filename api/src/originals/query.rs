//! Query parameters of NEW-VOICE, and what they become.

use axum::http::{Uri, request::Parts, uri::PathAndQuery};
use chrono::{Days, NaiveDate};
use domain::validation::FieldFault;
use form_urlencoded::Serializer;
use serde_json::Value;
use services::identity::Identity;
use uuid::Uuid;

use crate::{extract::LIMIT_MAX, problem::Problem};

pub const CALLS: &str = "GET /analytics/calls";
pub const METRICS: &str = "GET /analytics/metrics";
/// The lists that are read with `skip`.
const LISTS: [&str; 4] = ["GET /skillbases", "GET /campaigns", "GET /campaigns/{id}/tasks", CALLS];
/// How deep a list is read with `skip` or `page`; a cursor leads deeper.
const DEPTH_MAX: usize = 10_000;
/// Entries of a page without `limit`.
const LIMIT_DEFAULT: usize = 50;

/// The parameters of a request.
#[derive(Debug)]
pub struct Query(Vec<(String, String)>);

/// The part of a list that is asked for.
#[derive(Debug, PartialEq, Eq)]
pub struct Window {
    pub skip: usize,
    pub limit: usize,
    /// The number of the page, from 1, if pages are numbered.
    page: Option<usize>,
}

/// The days that are asked for, both included.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Period {
    pub start_date: Option<NaiveDate>,
    pub end_date: Option<NaiveDate>,
}

impl Window {
    /// Adds what NEW-VOICE tells of a page of calls.
    pub fn describe(&self, page: &mut Value) {
        if let (Some(number), Some(fields)) = (self.page, page.as_object_mut()) {
            fields.insert("page".to_owned(), number.into());
            fields.insert("page_size".to_owned(), self.limit.into());
        }
    }
}

impl Query {
    pub fn parse(query: Option<&str>) -> Self {
        Self(form_urlencoded::parse(query.unwrap_or_default().as_bytes()).into_owned().collect())
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    /// The value of a parameter, which the request no longer has. An empty value is none.
    fn take(&mut self, name: &str) -> Result<Option<String>, Problem> {
        let (taken, others) = std::mem::take(&mut self.0).into_iter().partition::<Vec<_>, _>(|(other, _)| other == name);
        self.0 = others;
        match taken.as_slice() {
            [] => Ok(None),
            [(_, value)] => Ok(Some(value.clone()).filter(|value| !value.is_empty())),
            _ => Err(Problem::bad_request(format!("{name} is there twice"))),
        }
    }

    /// Gives `name` the value of the parameter `alias`. Two different values are refused.
    fn set(&mut self, name: &str, alias: &str, value: String) -> Result<(), Problem> {
        match self.get(name) {
            Some(other) if other == value => Ok(()),
            Some(_) => Err(Problem::invalid(alias, FieldFault::EitherOr { field: alias.to_owned(), other: name.to_owned() })),
            None => {
                self.0.push((name.to_owned(), value));
                Ok(())
            }
        }
    }

    /// The caller's own company may be named.
    pub fn take_company(&mut self, caller: Option<&Identity>) -> Result<(), Problem> {
        let (Some(id), Some(caller)) = (self.take("company_id")?, caller) else { return Ok(()) };
        match id.parse::<Uuid>() {
            Ok(id) if id == caller.company_id => Ok(()),
            Ok(_) => Err(Problem::not_found("company")),
            Err(_) => Err(Problem::bad_request("company_id must be a UUID")),
        }
    }

    /// `start_date` and `end_date` become `from` and `to`, which is the day after.
    pub fn take_period(&mut self, action: &str) -> Result<Period, Problem> {
        if ![CALLS, METRICS].contains(&action) {
            return Ok(Period::default());
        }
        let period = Period { start_date: self.take_day("start_date")?, end_date: self.take_day("end_date")? };
        if let Some(day) = period.start_date {
            self.set("from", "start_date", day.to_string())?;
        }
        if let Some(day) = period.end_date {
            let after = day.checked_add_days(Days::new(1)).ok_or_else(|| day_expected("end_date"))?;
            self.set("to", "end_date", after.to_string())?;
        }
        Ok(period)
    }

    fn take_day(&mut self, name: &str) -> Result<Option<NaiveDate>, Problem> {
        let read = |text: String| text.parse().ok().filter(|_| text.len() == 10).ok_or_else(|| day_expected(name));
        self.take(name)?.map(read).transpose()
    }

    /// `skip`, and for calls `page` and `page_size`. `None` if the request has a cursor, and for limits that the handler refuses.
    pub fn take_window(&mut self, action: &str) -> Result<Option<Window>, Problem> {
        if !LISTS.contains(&action) {
            return Ok(None);
        }
        let page = if action == CALLS { self.take_number("page", 1)? } else { None };
        if action == CALLS
            && let Some(size) = self.take("page_size")?
        {
            self.set("limit", "page_size", size)?;
        }
        let skip = self.take_number("skip", 0)?;
        if self.get("cursor").is_some() {
            let given = [("page", page), ("skip", skip)].into_iter().find(|(_, value)| value.is_some());
            return match given {
                Some((name, _)) => Err(Problem::bad_request(format!("give either {name} or cursor"))),
                None => Ok(None),
            };
        }
        let Ok(limit) = self.get("limit").map_or(Ok(LIMIT_DEFAULT), str::parse) else { return Ok(None) };
        if !(1..=usize::from(LIMIT_MAX)).contains(&limit) {
            return Ok(None);
        }
        let skip = match (page, skip) {
            (Some(page), None) => (page - 1).saturating_mul(limit),
            (None, skip) => skip.unwrap_or(0),
            (Some(_), Some(_)) => return Err(Problem::bad_request("give either page or skip")),
        };
        if skip.saturating_add(limit) > DEPTH_MAX {
            let detail = format!("skip and page lead to the first {DEPTH_MAX} entries; use cursor with the next_cursor of the page before");
            return Err(Problem::bad_request(detail));
        }
        let page = if action == CALLS && skip.is_multiple_of(limit) { Some(skip / limit + 1) } else { None };
        Ok(Some(Window { skip, limit, page }))
    }

    fn take_number(&mut self, name: &str, min: usize) -> Result<Option<usize>, Problem> {
        let read = |text: String| text.parse().ok().filter(|number| *number >= min);
        match self.take(name)? {
            Some(text) => read(text).map(Some).ok_or_else(|| Problem::bad_request(format!("{name} must be a whole number from {min}"))),
            None => Ok(None),
        }
    }

    /// Gives a parameter this value.
    pub fn put(&mut self, name: &str, value: String) {
        self.0.retain(|(other, _)| other != name);
        self.0.push((name.to_owned(), value));
    }

    /// Gives a request these parameters.
    pub fn write(&self, parts: &mut Parts) -> Result<(), Problem> {
        let query = Serializer::new(String::new()).extend_pairs(&self.0).finish();
        let path = parts.uri.path();
        let written = if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") };
        let written: PathAndQuery = written.parse().map_err(|error| Problem::internal(&error))?;
        let mut uri = std::mem::take(&mut parts.uri).into_parts();
        uri.path_and_query = Some(written);
        parts.uri = Uri::from_parts(uri).map_err(|error| Problem::internal(&error))?;
        Ok(())
    }
}

fn day_expected(name: &str) -> Problem {
    Problem::bad_request(format!("{name} must be a date, as 2026-11-20"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(action: &str, query: &str) -> Result<Option<(usize, usize, Option<usize>)>, u16> {
        let taken = Query::parse(Some(query)).take_window(action);
        taken.map(|window| window.map(|window| (window.skip, window.limit, window.page))).map_err(|problem| problem.status)
    }

    #[test]
    fn a_part_of_a_list_is_named_by_skip_or_by_page() {
        assert_eq!(window(CALLS, "page=3&page_size=20"), Ok(Some((40, 20, Some(3)))));
        assert_eq!(window(CALLS, ""), Ok(Some((0, 50, Some(1)))));
        assert_eq!(window(CALLS, "skip=7&limit=5"), Ok(Some((7, 5, None))));
        assert_eq!(window("GET /campaigns", "skip=0&limit=200"), Ok(Some((0, 200, None))));
        assert_eq!(window("GET /campaigns", "cursor=x"), Ok(None));
        assert_eq!(window("GET /campaigns", "limit=201&skip=1"), Ok(None));
        assert_eq!(window("GET /campaigns/{id}", "skip=1"), Ok(None));
    }

    #[test]
    fn what_is_no_part_of_a_list_is_refused() {
        for query in
            ["page=0", "page=x", "skip=-1", "skip=1&skip=2", "page=1&skip=0", "page=2&cursor=x", "page=201", "page=18446744073709551615"]
        {
            assert_eq!(window(CALLS, query), Err(400), "{query}");
        }
        assert_eq!(window(CALLS, "page_size=5&limit=6"), Err(422));
        assert_eq!(window(CALLS, "page=200"), Ok(Some((9_950, 50, Some(200)))));
    }

    #[test]
    fn dates_become_times_and_the_last_day_is_included() {
        let mut query = Query::parse(Some("start_date=2026-11-01&end_date=2026-11-30"));
        let period = query.take_period(METRICS).unwrap();
        assert_eq!((period.start_date, period.end_date), (NaiveDate::from_ymd_opt(2026, 11, 1), NaiveDate::from_ymd_opt(2026, 11, 30)));
        assert_eq!((query.get("from"), query.get("to"), query.get("end_date")), (Some("2026-11-01"), Some("2026-12-01"), None));
        for (wrong, status) in
            [("start_date=1.11.2026", 400), ("end_date=+262142-12-31", 400), ("start_date=2026-11-01&from=2026-11-02", 422)]
        {
            assert_eq!(Query::parse(Some(wrong)).take_period(CALLS).map_err(|problem| problem.status), Err(status), "{wrong}");
        }
    }

    #[test]
    fn parameters_are_written_as_they_were_read() {
        let (mut parts, ()) = axum::http::Request::get("/calls?phone_number=%2B1&x=a+b").body(()).unwrap().into_parts();
        let mut query = Query::parse(parts.uri.query());
        query.put("cursor", "a&b".to_owned());
        query.write(&mut parts).unwrap();
        assert_eq!(parts.uri, "/calls?phone_number=%2B1&x=a+b&cursor=a%26b");
    }
}
