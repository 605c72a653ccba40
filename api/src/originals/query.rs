//! Query parameters of NEW-VOICE, and what they become.

use axum::http::{StatusCode, Uri, request::Parts, uri::PathAndQuery};
use chrono::{DateTime, Datelike as _, Days, NaiveDate, TimeDelta, Utc};
use chrono_tz::Tz;
use domain::validation::FieldFault;
use form_urlencoded::Serializer;
use serde_json::Value;
use services::identity::Identity;
use uuid::Uuid;

use crate::{
    extract::{LIMIT_DEFAULT, LIMIT_MAX},
    problem::Problem,
    times::WrittenTime,
};

pub const CALLS: &str = "GET /analytics/calls";
pub const METRICS: &str = "GET /analytics/metrics";
const SKILLBASES: &str = "GET /skillbases";
/// Calls are before this year.
const YEAR_MAX: i32 = 2199;
/// The lists that are read with `skip`.
pub const LISTS: &[&str] = &[SKILLBASES, "GET /campaigns", "GET /campaigns/{id}/tasks", CALLS];
/// How deep a list is read with `skip` or `page`; a cursor leads deeper.
const DEPTH_MAX: usize = 10_000;

/// The parameters of a request.
#[derive(Debug)]
pub struct Query {
    parameters: Vec<(String, String)>,
    /// Whether they differ from those of the request.
    is_changed: bool,
}

/// The part of a list that is asked for.
#[derive(Debug, PartialEq, Eq)]
pub struct Window {
    /// The list.
    pub action: &'static str,
    pub skip: usize,
    pub limit: usize,
    /// Whether the request has `skip`, `page` or `page_size`.
    pub is_named: bool,
    /// The number of the page, from 1, if pages are numbered.
    page: Option<usize>,
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
        let parameters = form_urlencoded::parse(query.unwrap_or_default().as_bytes()).into_owned().collect();
        Self { parameters, is_changed: false }
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    /// The value of a parameter, which is removed from the request.
    fn take(&mut self, name: &str) -> Result<Option<String>, Problem> {
        let (taken, others) = std::mem::take(&mut self.parameters).into_iter().partition::<Vec<_>, _>(|(other, _)| other == name);
        self.parameters = others;
        self.is_changed |= !taken.is_empty();
        match taken.as_slice() {
            [] => Ok(None),
            [(_, value)] => Ok(Some(value.clone())),
            _ => Err(Problem::bad_request(format!("the parameter {name} may be given once"))),
        }
    }

    /// Gives `name` the value of the parameter `alias`. Two different values are refused.
    fn set(&mut self, name: &str, alias: &str, value: String) -> Result<(), Problem> {
        match self.get(name) {
            Some(other) if other == value => Ok(()),
            Some(_) => Err(Problem::invalid(alias, FieldFault::EitherOr { field: alias.to_owned(), other: name.to_owned() })),
            None => {
                self.put(name, value);
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
    pub fn take_period(&mut self, action: &str) -> Result<(), Problem> {
        if ![CALLS, METRICS].contains(&action) {
            return Ok(());
        }
        let (start, end) = (self.take_day("start_date")?, self.take_day("end_date")?);
        if start.zip(end).is_some_and(|(start, end)| start > end) {
            return Err(Problem::invalid("end_date", FieldFault::IsBefore { field: "start_date".to_owned() }));
        }
        if let Some(day) = start {
            self.set("from", "start_date", day.to_string())?;
        }
        // No call is later: such a date means that there is no end.
        if let Some(after) = end.filter(|day| day.year() < YEAR_MAX).and_then(|day| day.checked_add_days(Days::new(1))) {
            self.set("to", "end_date", after.to_string())?;
        }
        Ok(())
    }

    /// `True` and `1`, as Python writes them, become `true`.
    pub fn adapt_flags(&mut self, action: &str) {
        if action != SKILLBASES {
            return;
        }
        for (_, value) in self.parameters.iter_mut().filter(|(name, _)| ["is_active", "is_published"].contains(&name.as_str())) {
            let adapted = match value.to_ascii_lowercase().as_str() {
                "true" | "1" | "yes" | "on" => "true",
                "false" | "0" | "no" | "off" => "false",
                _ => continue,
            };
            self.is_changed |= value != adapted;
            adapted.clone_into(value);
        }
    }

    /// The day of a time in the query, in UTC.
    pub fn day(&self, name: &str) -> Option<NaiveDate> {
        self.moment(name).map(|at| at.date_naive())
    }

    /// The last day before a time in the query, in UTC.
    pub fn last_day(&self, name: &str) -> Option<NaiveDate> {
        self.moment(name).map(|at| (at - TimeDelta::microseconds(1)).date_naive())
    }

    fn moment(&self, name: &str) -> Option<DateTime<Utc>> {
        let written = WrittenTime::parse(self.get(name)?)?;
        Some(written.in_zone(Tz::UTC))
    }

    fn take_day(&mut self, name: &str) -> Result<Option<NaiveDate>, Problem> {
        let read = |text: String| text.parse().ok().filter(|_| text.len() == 10).ok_or_else(|| day_expected(name));
        self.take(name)?.map(read).transpose()
    }

    /// `skip`, and for calls `page` and `page_size`. `None` if the request has a cursor, and for limits that the handler refuses.
    pub fn take_window(&mut self, action: &str) -> Result<Option<Window>, Problem> {
        let Some(action) = LISTS.iter().copied().find(|list| *list == action) else { return Ok(None) };
        let (page, size) = match action {
            CALLS => (self.take_number("page", 1)?, self.take_number("page_size", 1)?),
            _ => (None, None),
        };
        if let Some(size) = size {
            if size > usize::from(LIMIT_MAX) {
                return Err(Problem::invalid("page_size", FieldFault::OutOfRange { min: "1".to_owned(), max: LIMIT_MAX.to_string() }));
            }
            self.set("limit", "page_size", size.to_string())?;
        }
        let skip = self.take_number("skip", 0)?;
        if self.get("cursor").is_some() {
            let given = [("page", page), ("skip", skip)].into_iter().find(|(_, value)| value.is_some());
            return match given {
                Some((name, _)) => Err(Problem::bad_request(format!("give either {name} or cursor"))),
                None => Ok(None),
            };
        }
        // The handler refuses limits that it does not accept.
        let mut limits = self.parameters.iter().filter(|(name, _)| name == "limit");
        let limit = limits.next().map_or(Some(usize::from(LIMIT_DEFAULT)), |(_, limit)| limit.parse().ok());
        let Some(limit) = limit.filter(|limit| (1..=usize::from(LIMIT_MAX)).contains(limit) && limits.next().is_none()) else {
            return Ok(None);
        };
        let is_named = page.or(size).or(skip).is_some();
        let skip = match (page, skip) {
            (Some(page), None) => (page - 1).saturating_mul(limit),
            (None, skip) => skip.unwrap_or(0),
            (Some(_), Some(_)) => return Err(Problem::bad_request("give either page or skip")),
        };
        if skip.saturating_add(limit) > DEPTH_MAX {
            let detail = format!(
                "skip and page reach the first {DEPTH_MAX} entries only; for further ones, use cursor with the next_cursor of a page"
            );
            return Err(Problem::bad_request(detail));
        }
        let page = if action == CALLS && skip.is_multiple_of(limit) { Some(skip / limit + 1) } else { None };
        Ok(Some(Window { action, skip, limit, is_named, page }))
    }

    fn take_number(&mut self, name: &str, min: usize) -> Result<Option<usize>, Problem> {
        let read = |text: String| text.parse().ok().filter(|number| (min..=DEPTH_MAX).contains(number));
        match self.take(name)? {
            Some(text) => {
                read(text).map(Some).ok_or_else(|| Problem::bad_request(format!("{name} must be a whole number from {min} to {DEPTH_MAX}")))
            }
            None => Ok(None),
        }
    }

    /// Gives a parameter this value.
    pub fn put(&mut self, name: &str, value: String) {
        self.parameters.retain(|(other, _)| other != name);
        self.parameters.push((name.to_owned(), value));
        self.is_changed = true;
    }

    /// Gives a request these parameters, if they were changed.
    pub fn write(&self, parts: &mut Parts) -> Result<(), Problem> {
        if !self.is_changed {
            return Ok(());
        }
        let query = Serializer::new(String::new()).extend_pairs(&self.parameters).finish();
        let path = parts.uri.path();
        let written = if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") };
        // Some characters are written in three.
        let too_long = |_| Problem::new(StatusCode::URI_TOO_LONG, "the query is too long");
        let written: PathAndQuery = written.parse().map_err(too_long)?;
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
        for query in [
            "page_size=0",
            "page_size=x",
            "page=0",
            "page=x",
            "skip=-1",
            "skip=1&skip=2",
            "page=1&skip=0",
            "page=2&cursor=x",
            "page=201",
            "page=18446744073709551615",
        ] {
            assert_eq!(window(CALLS, query), Err(400), "{query}");
        }
        assert_eq!(window(CALLS, "page_size=5&limit=6"), Err(422));
        assert_eq!(window(CALLS, "page_size=201"), Err(422));
        assert_eq!(window(CALLS, "limit=5&limit=6"), Ok(None));
        assert_eq!(window(CALLS, "page=200"), Ok(Some((9_950, 50, Some(200)))));
    }

    #[test]
    fn dates_become_times_and_the_last_day_is_included() {
        let mut query = Query::parse(Some("start_date=2026-11-01&end_date=2026-11-30"));
        query.take_period(METRICS).unwrap();
        assert_eq!((query.get("from"), query.get("to"), query.get("end_date")), (Some("2026-11-01"), Some("2026-12-01"), None));
        for (wrong, status) in [
            ("start_date=1.11.2026", 400),
            ("start_date=2026-11-02&end_date=2026-11-01", 422),
            ("end_date=+262142-12-31", 400),
            ("start_date=2026-11-01&from=2026-11-02", 422),
        ] {
            assert_eq!(Query::parse(Some(wrong)).take_period(CALLS).map_err(|problem| problem.status), Err(status), "{wrong}");
        }
    }

    #[test]
    fn a_query_that_is_not_changed_is_not_written_again() {
        let uri = format!("/calls?phone_number={}", "!".repeat(30_000));
        let (mut parts, ()) = axum::http::Request::get(&uri).body(()).unwrap().into_parts();
        Query::parse(parts.uri.query()).write(&mut parts).unwrap();
        assert_eq!(parts.uri, *uri);
        let mut query = Query::parse(parts.uri.query());
        query.put("limit", "5".to_owned());
        assert_eq!(query.write(&mut parts).unwrap_err().status, 414);
    }

    #[test]
    fn flags_are_read_as_python_writes_them() {
        let mut query = Query::parse(Some("is_active=True&is_published=0&name=True"));
        query.adapt_flags(SKILLBASES);
        assert_eq!((query.get("is_active"), query.get("is_published"), query.get("name")), (Some("true"), Some("false"), Some("True")));
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
