//! The plans with which PostgreSQL executes the platform's statements, on a long log with many companies.

mod allowed;
mod plan;
mod statement;

use std::{collections::BTreeMap, fs, path::Path};

use regex::Regex;
use serde_json::Value;
use sqlx::{Connection as _, PgConnection};
use support::{Platform, new_database};
use uuid::Uuid;

use crate::architecture::sources;
use allowed::{ALLOWED, FUNCTIONS, OTHER_FUNCTIONS, UNCHECKED};
use plan::Large;
use statement::{Given, Statement, Values};

/// A company with six of ten events, and one with two events.
const COMPANIES: [&str; 2] = ["0", "299"];
const ROLES: [&str; 4] = ["app", "identity", "log", "work"];

/// Company, plan_cache_mode, the parameters that have a value, whether the statement is executed.
type Way<'a> = (&'a (String, Values), &'static str, Given, bool);

/// A statement with a bad plan, and its role.
struct Bad {
    statement: String,
    role: &'static str,
    faults: Vec<String>,
}

#[tokio::test]
async fn every_statement_uses_an_index_under_the_role_that_sends_it() {
    let url = new_database().await;
    // Starting the platform creates the roles.
    let platform = Platform::start_on(&url).await;
    let mode: String = {
        let mut reads = platform.app().access.company(Uuid::nil()).await.unwrap();
        sqlx::query_scalar("show plan_cache_mode").fetch_one(&mut *reads).await.unwrap()
    };
    assert_eq!(mode, "force_custom_plan", "what companies ask for is planned for what they ask for");
    platform.stop().await;
    let mut db = PgConnection::connect(&url).await.unwrap();
    sqlx::raw_sql("set search_path = newvoice").execute(&mut db).await.unwrap();
    sqlx::raw_sql(include_str!("fill.sql")).execute(&mut db).await.unwrap();
    sqlx::raw_sql("analyze").execute(&mut db).await.unwrap();
    let large = Large::find(&mut db).await;
    let mut companies = Vec::new();
    for number in COMPANIES {
        let sql = "select filling.u('company', $1)::text";
        let company: String = sqlx::query_scalar(sql).bind(number).fetch_one(&mut db).await.unwrap();
        let values = Values::of(&mut db, &company).await;
        companies.push((company, values));
    }
    functions_read_little(&mut db).await;
    let mut bad = Vec::new();
    let statements = Statement::all();
    assert!(statements.len() > 200, "{} statements", statements.len());
    for statement in &statements {
        bad.extend(judge(&mut db, &large, &companies, statement).await);
    }
    let is_meant = |bad: &Bad, (part, role, _): &(&str, &str, &str)| bad.statement.contains(part) && (role.is_empty() || *role == bad.role);
    let unneeded: Vec<_> = ALLOWED.iter().filter(|entry| !bad.iter().any(|bad| is_meant(bad, entry))).collect();
    bad.retain(|bad| !ALLOWED.iter().any(|entry| is_meant(bad, entry)));
    let report = bad.iter().map(|Bad { statement, role, faults }| format!("as {role}: {statement}\n    {}", faults.join("\n    ")));
    assert!(bad.is_empty(), "{} bad plans:\n{}", bad.len(), report.collect::<Vec<_>>().join("\n"));
    assert!(unneeded.is_empty(), "no statement needs these exceptions: {unneeded:?}");
}

/// Checks the plans of a statement under each role that may send it, or under the owner if no role may.
async fn judge(db: &mut PgConnection, large: &Large, companies: &[(String, Values)], statement: &Statement) -> Vec<Bad> {
    let prepare = format!("prepare statement as {}", statement.text);
    sqlx::raw_sql(sqlx::AssertSqlSafe(prepare)).execute(&mut *db).await.unwrap_or_else(|error| panic!("{}: {error}", statement.text));
    let types = "select coalesce(array(select format_type(t, null) from unnest(parameter_types) t), '{}') from pg_prepared_statements where name = 'statement'";
    let types: Vec<String> = sqlx::query_scalar(types).fetch_one(&mut *db).await.unwrap();
    let mut ways: Vec<Way> = vec![(&companies[0], "force_generic_plan", Given::Nothing, false)];
    for company in companies {
        let filters = statement.optional.iter().copied().map(Given::Filter);
        for given in [Given::Required, Given::All] {
            ways.extend(["force_generic_plan", "force_custom_plan"].map(|mode| (company, mode, given, true)));
        }
        ways.extend(filters.map(|given| (company, "force_custom_plan", given, true)));
    }
    let (mut bad, mut may_send) = (Vec::new(), false);
    for role in ROLES.into_iter().rev().chain(["owner"]) {
        if may_send && (role == "owner" || (role == "app" && !statement.names_company())) {
            break;
        }
        let mut faults: BTreeMap<String, String> = BTreeMap::new();
        // Reads by key have a plan for every company; other reads of `app` have a plan for the company and its filters.
        let may_be_generic = role != "app" || statement.optional.is_empty();
        for way in ways.iter().filter(|(_, mode, ..)| may_be_generic || *mode == "force_custom_plan") {
            let Some(plan) = explain(db, large, role, statement, &types, way).await else { break };
            may_send = true;
            for fault in large.faults(&plan) {
                let (mode, given) = (way.1, way.2);
                faults.entry(fault.scan).or_insert_with(|| format!("{}, {mode}, {given:?}: {}", way.0.0, fault.what));
            }
        }
        let faults: Vec<_> = faults.into_iter().map(|(scan, what)| format!("{scan}: {what}")).collect();
        if !faults.is_empty() {
            bad.push(Bad { statement: statement.text.clone(), role, faults });
        }
    }
    sqlx::raw_sql("deallocate statement").execute(db).await.unwrap();
    bad
}

/// The plan, unless the role may not send the statement. The statement is also executed and measured, if this is harmless and there are
/// rows to measure.
async fn explain(
    db: &mut PgConnection,
    large: &Large,
    role: &str,
    statement: &Statement,
    types: &[String],
    ((company, values), mode, given, may_execute): &Way<'_>,
) -> Option<Value> {
    let role = if role == "owner" { "reset role".to_owned() } else { format!("select set_config('role', service_role('{role}'), true)") };
    let begin = format!(
        "begin; {role}; set local newvoice.company_id = '{company}'; set local plan_cache_mode = {mode}; set local statement_timeout = '30s'"
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(begin)).execute(&mut *db).await.unwrap();
    let literals = statement.literals(types, values, *given);
    let execute = if types.is_empty() { "execute statement".to_owned() } else { format!("execute statement({literals})") };
    let mut plan = plan_of(db, "format json", &execute).await;
    if let Ok(Some(planned)) = &plan
        && *may_execute
        && large.is_read_by(planned)
        && !statement.text.contains("insert into")
    {
        plan = plan_of(db, "analyze, timing off, format json", &execute).await;
    }
    sqlx::raw_sql("rollback").execute(db).await.unwrap();
    plan.unwrap_or_else(|error| panic!("{}\n{execute}: {error}", statement.text))
}

async fn plan_of(db: &mut PgConnection, options: &str, execute: &str) -> Result<Option<Value>, sqlx::Error> {
    let explain = sqlx::AssertSqlSafe(format!("explain ({options}) {execute}"));
    match sqlx::query_scalar::<_, Value>(explain).fetch_one(db).await {
        Ok(plan) => Ok(Some(plan[0]["Plan"].clone())),
        Err(sqlx::Error::Database(refused)) if refused.code().as_deref() == Some("42501") => Ok(None),
        Err(error) => Err(error),
    }
}

/// The plans of statements inside functions cannot be inspected, so the rows that they read are counted.
async fn functions_read_little(db: &mut PgConnection) {
    let all = "select proname::text from pg_proc p join pg_language l on l.oid = p.prolang
                where pronamespace = 'newvoice'::regnamespace and lanname = 'plpgsql' order by 1";
    let all: Vec<String> = sqlx::query_scalar(all).fetch_all(&mut *db).await.unwrap();
    let mut known: Vec<_> = FUNCTIONS.iter().map(|(name, ..)| *name).chain(OTHER_FUNCTIONS.iter().copied()).collect();
    known.sort_unstable();
    assert_eq!(all, known, "each function is called here, or has a reason not to be");
    let read = "select sum(seq_tup_read)::bigint, sum(idx_tup_fetch)::bigint from pg_stat_xact_user_tables";
    for (name, role, call) in FUNCTIONS {
        for mode in ["force_generic_plan", "force_custom_plan"] {
            let begin = format!("begin; select set_config('role', service_role('{role}'), true); set local plan_cache_mode = {mode}");
            let may_fill =
                "reset role; grant usage on schema filling to public; grant execute on all functions in schema filling to public";
            let begin = format!("{may_fill}; {begin}");
            sqlx::raw_sql(sqlx::AssertSqlSafe(begin)).execute(&mut *db).await.unwrap();
            let before: (i64, i64) = sqlx::query_as(read).fetch_one(&mut *db).await.unwrap();
            sqlx::raw_sql(*call).execute(&mut *db).await.unwrap_or_else(|error| panic!("{name}: {error}"));
            let after: (i64, i64) = sqlx::query_as(read).fetch_one(&mut *db).await.unwrap();
            sqlx::raw_sql("rollback").execute(&mut *db).await.unwrap();
            let (whole, by_index) = (after.0 - before.0, after.1 - before.1);
            assert!(
                whole < 1_000 && by_index < 1_000,
                "{name}, {mode}: {whole} rows of whole tables and {by_index} rows by indexes are read"
            );
        }
    }
}

/// A statement without `query!` is in no list that this test could explain.
#[test]
fn every_statement_is_checked_when_it_is_compiled_but_for_known_ones() {
    let unchecked = Regex::new(
        r#"sqlx::query(_as|_scalar)?(::<[^(]*>)?\(|raw_sql\(|AssertSqlSafe\(|copy_in_raw\(|QueryBuilder|query_file|\.(execute|fetch|fetch_[a-z]+|prepare)\(&?r?#?"|\.begin_with\("#,
    )
    .unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut files = Vec::new();
    for krate in ["api", "domain", "eventstore", "projections", "replay-tool", "services", "workers"] {
        sources(&root.join(krate).join("src"), &mut files);
    }
    let found = files.iter().filter_map(|file| {
        let code: String = fs::read_to_string(file).unwrap().split_whitespace().collect();
        let places = unchecked.find_iter(&code).count();
        (places > 0).then(|| (file.strip_prefix(root).unwrap().display().to_string(), places))
    });
    let known = UNCHECKED.iter().map(|(file, places, _)| ((*file).to_owned(), *places));
    assert_eq!(found.collect::<BTreeMap<_, _>>(), known.collect());
}
