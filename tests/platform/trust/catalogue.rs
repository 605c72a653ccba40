//! Operations that the database itself refuses.

use eventstore::Pool;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use sqlx::{Connection as _, PgConnection};
use support::{Platform, empty_database, new_database, seed};
use uuid::Uuid;

async fn names(pool: &Pool, sql: &'static str) -> Vec<String> {
    sqlx::query_scalar(sql).fetch_all(pool).await.unwrap()
}

/// Tables that hold data of companies.
const OF_COMPANIES: &str = "select c.oid from pg_class c where c.relnamespace = 'newvoice'::regnamespace and c.relkind in ('r', 'p')
                               and exists (select from pg_attribute a where a.attrelid = c.oid and a.attname = 'company_id' and not a.attisdropped)";

#[tokio::test]
async fn every_table_of_companies_is_confined_by_force_and_with_a_check() {
    let platform = Platform::start().await;
    platform.operator().await.act("/projections/calls/rebuild").await.expect(202);
    let pool = &platform.app().owner;
    let (confined, open): (i64, Vec<String>) = {
        let sql = format!(
            "select count(*) filter (where ok), coalesce(array_agg(relname::text) filter (where not ok), '{{}}')
               from (select c.relname, c.relrowsecurity and c.relforcerowsecurity and exists (
                            select from pg_policy p where p.polrelid = c.oid and p.polcmd = '*' and p.polwithcheck is not null
                               and pg_get_expr(p.polqual, p.polrelid) = pg_get_expr(p.polwithcheck, p.polrelid)) as ok
                       from pg_class c where c.oid in ({OF_COMPANIES})) t"
        );
        sqlx::query_as(sqlx::AssertSqlSafe(sql)).fetch_one(pool).await.unwrap()
    };
    assert!(confined > 30 && open.is_empty(), "{confined} tables are confined, {open:?} are not");
    let views = names(pool, "select relname::text from pg_class where relnamespace = 'newvoice'::regnamespace and relkind = 'v' and not coalesce('security_invoker=true' = any(reloptions), false)").await;
    assert!(views.is_empty(), "{views:?} show more than their reader may see");
    let definers = names(pool, "select proname::text from pg_proc where pronamespace = 'newvoice'::regnamespace and prosecdef").await;
    assert!(definers.is_empty(), "{definers:?} run with more rights than their caller has");
    platform.stop().await;
}

/// Unique keys must include the company, so that a conflict reveals no data of other companies. Keys that are random, or that no client can
/// choose, are exempt.
#[tokio::test]
async fn unique_keys_lead_with_the_company() {
    const RANDOM: [&str; 13] = [
        // Tables of the log, to which only the platform appends; ids of streams and events are random or derived from random ones.
        "events",
        "streams",
        "company_keys",
        "companies",
        // Secrets and their hashes.
        "user_credentials",
        "api_key_credentials",
        "refresh_tokens",
        // The id of a call; the platform reads its company from the log.
        "claim_slots",
        // Only workers write it; their items are ids and positions.
        "worker_failures",
        "log_seals",
        "log_seal_keys",
        "signing_keys",
        "auth_tickets",
    ];
    let platform = Platform::start().await;
    let sql = format!(
        "select distinct c.relname::text from pg_index i join pg_class c on c.oid = i.indrelid
           join pg_attribute a on a.attrelid = c.oid and a.attnum = i.indkey[0]
          where i.indisunique and c.oid in ({OF_COMPANIES}) and a.attname <> 'company_id' and c.relname !~ '^events_from_'"
    );
    let found: Vec<String> = sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_all(&platform.app().owner).await.unwrap();
    let unexpected: Vec<_> = found.iter().filter(|name| !RANDOM.contains(&name.as_str())).collect();
    assert!(unexpected.is_empty(), "{unexpected:?}");
    platform.stop().await;
}

/// No service role owns an object or is exempt from policies, except the role of the log, which uses COPY.
#[tokio::test]
async fn the_platforms_roles_are_no_more_than_they_need_to_be() {
    let platform = Platform::start().await;
    let pool = &platform.app().owner;
    type Role = (String, bool, bool, bool, bool, i64, i64);
    let roles: Vec<Role> = sqlx::query_as(
        "select r.rolname::text, r.rolsuper, r.rolbypassrls, r.rolcreaterole, r.rolcreatedb,
                (select count(*) from pg_class c where c.relowner = r.oid), (select count(*) from pg_auth_members m where m.member = r.oid)
           from pg_roles r where r.rolname in (select newvoice.service_role(x) from unnest(array['app', 'identity', 'log', 'work']) x) order by 1",
    )
    .fetch_all(pool)
    .await
    .unwrap();
    assert_eq!(roles.len(), 4);
    for (name, superuser, bypasses, creates_roles, creates_databases, owns, is_member_of) in roles {
        assert!(!superuser && !creates_roles && !creates_databases && (owns, is_member_of) == (0, 0), "{name}");
        assert_eq!(bypasses, name.contains("_log_"), "{name}");
    }
    let app = "has_table_privilege(newvoice.service_role('app'), c.oid, 'insert, update, delete, truncate')";
    let written = sqlx::query_scalar::<_, String>(sqlx::AssertSqlSafe(format!(
        "select relname::text from pg_class c where relnamespace = 'newvoice'::regnamespace and relkind in ('r', 'p') and {app}"
    )));
    assert_eq!(written.fetch_all(pool).await.unwrap(), ["idempotency_keys"], "the API reads; what it changes it changes through the log");
    let log = names(pool, "select p from unnest(array['update', 'delete', 'truncate']) p where has_table_privilege(newvoice.service_role('log'), 'newvoice.events', p)").await;
    assert!(log.is_empty(), "the log can only be appended to");
    platform.stop().await;
}

/// Uses the API's role directly: without a company no rows are visible, with a company only its own, and no row of another company can be
/// written.
#[tokio::test]
async fn the_apis_role_sees_nothing_without_a_company_and_its_own_with_one() {
    let platform = Platform::start().await;
    let (a, b) = (platform.admin().await, platform.admin().await);
    for client in [&a, &b] {
        client.running_campaign(2, serde_json::json!({})).await;
        client.get("/campaigns").await.expect(200);
    }
    let company = |answer: support::Answer| answer["id"].as_str().unwrap().parse::<Uuid>().unwrap();
    let (of_a, of_b) = (company(a.get("/company").await), company(b.get("/company").await));
    let access = &platform.app().access;
    let tables = names(&platform.app().owner, "select table_name from newvoice.table_access where role = 'app' and privileges like 'select%' and table_name not like 'projection%'").await;
    assert!(tables.len() > 20);
    let count = async |company: Option<Uuid>, table: &str, condition: &str| {
        let mut tx = access.begin_with(company, "begin").await.unwrap();
        let sql = format!("select count(*) from {table} where {condition}");
        sqlx::query_scalar::<_, i64>(sqlx::AssertSqlSafe(sql)).fetch_one(&mut *tx).await.unwrap()
    };
    let mut rows = 0;
    for table in &tables {
        assert_eq!(count(None, table, "true").await, 0, "{table} without a company");
        let own = count(Some(of_a), table, "true").await;
        assert_eq!(count(Some(of_a), table, &format!("company_id = '{of_b}'")).await, 0, "{table} of another company");
        assert_eq!(count(Some(Uuid::new_v4()), table, "true").await, 0, "{table} of nobody");
        rows += own;
    }
    assert!(rows > 10, "there was something to see");
    let mut tx = access.company(of_a).await.unwrap();
    let forged = "insert into idempotency_keys (company_id, method, path, key_hash, body_hash, locked_until) values ($1, 'POST', '/x', 'k', 'b', now())";
    let refused = sqlx::query(forged).bind(of_b).execute(&mut *tx).await.unwrap_err();
    assert!(refused.to_string().contains("row-level security"), "{refused}");
    platform.stop().await;
}

/// A connection is used after another company's transaction: no state of it is left, regardless of how it ended.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_do_not_carry_a_company_to_the_next() {
    let platform = Platform::start().await;
    let access = platform.app().access.clone();
    let seed = seed();
    let tasks = (0..32_u64).map(|n| {
        let (access, mut rng) = (access.clone(), StdRng::seed_from_u64(seed.wrapping_add(n)));
        tokio::spawn(async move {
            let company = Uuid::from_u128(u128::from(n) + 1);
            for _ in 0..20 {
                let look = async {
                    let mut tx = access.company(company).await.unwrap();
                    let seen: Option<Uuid> = sqlx::query_scalar("select current_company()").fetch_one(&mut *tx).await.unwrap();
                    assert_eq!(seen, Some(company));
                };
                let _ = tokio::time::timeout(std::time::Duration::from_micros(rng.random_range(50..3_000)), look).await;
                let mut nobody = access.begin_with(None, "begin").await.unwrap();
                let seen: Option<Uuid> = sqlx::query_scalar("select current_company()").fetch_one(&mut *nobody).await.unwrap();
                assert_eq!(seen, None);
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    platform.stop().await;
}

/// A database that is restored under another name, without roles and rights, gets them when the platform opens it.
#[tokio::test]
async fn a_restored_database_is_protected_again() {
    let url = new_database().await;
    let platform = Platform::start_on(&url).await;
    let admin = platform.admin().await;
    let company = admin.get("/company").await.expect(200).body;
    platform.stop().await;
    let copy = support::copy_database(&url).await;
    let mut owner = PgConnection::connect(&copy).await.unwrap();
    sqlx::raw_sql("do $$ declare r text; begin for r in select relname from pg_class where relnamespace = 'newvoice'::regnamespace and relkind in ('r', 'p') loop
                       execute format('revoke all on newvoice.%I from public', r); end loop; end $$").execute(&mut owner).await.unwrap();
    let restored = Platform::start_on(&copy).await;
    let again = admin.at(&restored.base());
    assert_eq!(again.get("/company").await.expect(200).body, company);
    restored.stop().await;
}

/// The roles belong to the server and survive the database: the migrations of the new one find them.
#[tokio::test]
async fn a_database_that_is_dropped_and_created_again_is_an_empty_one() {
    let url = empty_database().await;
    Platform::start_on(&url).await.stop().await;
    let (server, name) = url.rsplit_once('/').unwrap();
    let mut owner = PgConnection::connect(&format!("{server}/postgres")).await.unwrap();
    for command in [format!("drop database {name} with (force)"), format!("create database {name}")] {
        sqlx::query(sqlx::AssertSqlSafe(command)).execute(&mut owner).await.unwrap();
    }
    let platform = Platform::start_on(&url).await;
    platform.admin().await.get("/company").await.expect(200);
    platform.stop().await;
}

/// Changes that a service role can make to itself with SQL do not survive a start: another password, or settings with which no session can
/// begin.
#[tokio::test]
async fn a_start_undoes_what_a_service_role_did_to_itself() {
    let url = new_database().await;
    let platform = Platform::start_on(&url).await;
    let admin = platform.admin().await;
    let (app, database) = (platform.app(), url.rsplit_once('/').unwrap().1);
    let sabotage = format!(
        "alter role current_user set search_path = pg_temp; alter role current_user in database {database} set default_transaction_read_only = on;
         alter role current_user set local_preload_libraries = 'not_there'; alter role current_user password 'x'"
    );
    let mut reads = app.access.begin_with(None, "begin").await.unwrap();
    sqlx::raw_sql(sqlx::AssertSqlSafe(sabotage.clone())).execute(&mut *reads).await.unwrap();
    reads.commit().await.unwrap();
    for pool in [&app.access.identity, &app.access.commands, &app.access.work] {
        sqlx::raw_sql(sqlx::AssertSqlSafe(sabotage.clone())).execute(&mut *pool.acquire().await.unwrap()).await.unwrap();
    }
    platform.stop().await;

    let again = Platform::start_on(&url).await;
    let admin = admin.at(&again.base());
    admin.running_campaign(2, serde_json::json!({})).await;
    admin.get("/campaigns").await.expect(200);
    let settings = "select unnest(setconfig) from pg_db_role_setting where setrole in
                    (select to_regrole(newvoice.service_role(r)) from unnest(array['app', 'identity', 'log', 'work']) r)";
    assert_eq!(names(&again.app().owner, settings).await, Vec::<String>::new());
    again.stop().await;
}

/// Temporary objects could hide the platform's tables and fill the disk.
#[tokio::test]
async fn service_roles_have_nothing_outside_the_platforms_tables() {
    let url = new_database().await;
    let foreign = "create schema foreigner";
    sqlx::raw_sql(foreign).execute(&mut PgConnection::connect(&url).await.unwrap()).await.unwrap();
    let platform = Platform::start_on(&url).await;
    let temporary = "select r from unnest(array['app', 'identity', 'log', 'work']) r
                      where has_database_privilege(newvoice.service_role(r), current_database(), 'temporary')";
    assert_eq!(names(&platform.app().owner, temporary).await.len(), 4, "another schema's users may need it");
    sqlx::raw_sql("drop schema foreigner").execute(&mut PgConnection::connect(&url).await.unwrap()).await.unwrap();
    platform.stop().await;

    let platform = Platform::start_on(&url).await;
    assert_eq!(names(&platform.app().owner, temporary).await, Vec::<String>::new());
    let mut db = platform.app().access.work.acquire().await.unwrap();
    let refused = sqlx::query("create temporary table covers (id int)").execute(&mut *db).await.unwrap_err();
    assert!(refused.to_string().contains("permission denied"), "{refused}");
    drop(db);
    platform.operator().await.act("/projections/calls/rebuild").await.expect(202);
    // The server of the tests was created by the platform.
    let elsewhere = "select datname::text from pg_database where datname in ('postgres', 'template1')
                        and has_database_privilege(newvoice.service_role('app'), oid, 'connect')";
    assert_eq!(names(&platform.app().owner, elsewhere).await, Vec::<String>::new());
    platform.stop().await;
}
