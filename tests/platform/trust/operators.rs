//! Operators of the installation, and who may register.

use std::{
    process::{Command, Output},
    sync::Arc,
};

use eventstore::database::OpenError;
use newvoice_api::settings::{RegistrationMode, StoreSettings};
use serde_json::{Value, json};
use services::identity::credentials;
use support::{MASTER_KEY, Platform, Process, Proxy, binary, empty_database, master_key, new_database, settings};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::Notify,
};
use uuid::Uuid;

fn register(name: &str) -> Value {
    json!({"email": format!("{name}@example.com"), "password": "correct horse", "company_name": name})
}

async fn platform(registration: RegistrationMode) -> Platform {
    platform_on(&new_database().await, registration).await
}

async fn platform_on(url: &str, registration: RegistrationMode) -> Platform {
    let mut settings = settings(url);
    settings.identity.registration = registration;
    Platform::start_with(settings).await
}

#[tokio::test]
async fn the_first_registration_makes_the_operator_and_later_ones_are_refused() {
    let platform = platform(RegistrationMode::First).await;
    let visitor = platform.anonymous();
    let first = visitor.post("/auth/register", &register("first")).await.expect(201);
    visitor.post("/auth/register", &register("second")).await.problem(403);
    let operator = platform.anonymous().signed_in(&first);
    operator.act("/projections/calls/rebuild").await.expect(202);
    // Other users join by invitation and are not operators.
    operator.invited("b@example.com", "admin").await.act("/projections/calls/retry").await.problem(403);
    // API keys are not operators either, including keys that an operator issued.
    let key = operator.post("/api-keys", &json!({"name": "k", "role": "admin"})).await.expect(201);
    operator.with_token(key["key"].as_str().unwrap()).act("/projections/calls/retry").await.problem(403);
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_registrations_at_once_one_is_the_first() {
    let platform = platform(RegistrationMode::First).await;
    let visitor = platform.anonymous();
    let bodies: Vec<Value> = (0..8).map(|i| register(&format!("c{i}"))).collect();
    let answers = futures::future::join_all(bodies.iter().map(|body| visitor.post("/auth/register", body))).await;
    let mut statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 403, 403, 403, 403, 403, 403, 403]);
    let operators: i64 = sqlx::query_scalar("select count(*) from user_credentials where operator_since is not null")
        .fetch_one(&platform.app().owner)
        .await
        .unwrap();
    assert_eq!(operators, 1);
    platform.stop().await;
}

/// The process died between the credentials and the log: the credentials give no session, and another user can still be the first.
#[tokio::test]
async fn a_first_registration_that_was_cut_off_gives_no_session_and_lets_another_be_first() {
    let platform = platform(RegistrationMode::First).await;
    let visitor = platform.anonymous();
    let (pool, password) = (&platform.app().owner, services::identity::hash_password("correct horse".into()).await.unwrap());
    let insert = "insert into user_credentials (email_hash, user_id, company_id, role, password_hash, operator_since, pending_since)
                  values ($1, gen_random_uuid(), gen_random_uuid(), 'admin', $2, now(), now())";
    let hash = credentials::email_hash(&master_key(), "cut-off@example.com");
    sqlx::query(insert).bind(hash).bind(password).execute(pool).await.unwrap();
    let login = json!({"email": "cut-off@example.com", "password": "correct horse"});
    visitor.post("/auth/login", &login).await.problem(401);
    visitor.post("/auth/register", &register("second")).await.problem(403);
    sqlx::query("update user_credentials set pending_since = now() - interval '5 minutes'").execute(pool).await.unwrap();
    visitor.post("/auth/register", &register("second")).await.expect(201);
    visitor.post("/auth/login", &login).await.problem(401);
    platform.stop().await;
}

const APPEND: &[&str] = &["require_as_predicted", "from append_events("];

/// Holds a statement at the proxy: the first notification means that it has arrived, the second one lets it continue.
fn stop_at(proxy: &Proxy, needles: &'static [&'static str]) -> (Arc<Notify>, Arc<Notify>) {
    let [there, go] = std::array::from_fn(|_| Arc::new(Notify::new()));
    let (says_so, waits) = (Arc::clone(&there), Arc::clone(&go));
    proxy.hold_at(needles, async move {
        says_so.notify_one();
        waits.notified().await;
    });
    (there, go)
}

/// Simulates that every pending registration began some time ago.
async fn age_registrations(platform: &Platform) {
    let age = "update user_credentials set created_at = now() - interval '3 minutes', pending_since = now() - interval '3 minutes'
                where pending_since is not null";
    sqlx::query(age).execute(&platform.app().owner).await.unwrap();
}

/// The append of a registration that looks abandoned succeeds between the check of the log and the deletion of its credentials.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_registration_that_completes_at_the_last_moment_stays_the_first() {
    let (proxy, url) = Proxy::before(&new_database().await).await;
    let platform = platform_on(&url, RegistrationMode::First).await;
    let visitor = platform.anonymous();
    let (slow, second) = (register("slow"), register("second"));
    let (appending, append) = stop_at(&proxy, APPEND);
    let completed = Notify::new();
    let slow = async {
        let answer = visitor.post("/auth/register", &slow).await;
        completed.notify_one();
        answer
    };
    let second = async {
        appending.notified().await;
        age_registrations(&platform).await;
        let (deleting, delete) = stop_at(&proxy, &["delete from user_credentials where user_id"]);
        let complete = async {
            deleting.notified().await;
            append.notify_one();
            completed.notified().await;
            delete.notify_one();
        };
        tokio::join!(visitor.post("/auth/register", &second), complete).0
    };
    let (slow, second) = tokio::join!(slow, second);
    slow.expect(201);
    second.problem(403);
    let login = json!({"email": "slow@example.com", "password": "correct horse"});
    visitor.post("/auth/login", &login).await.expect(200);
    platform.stop().await;
}

/// The append of a registration succeeds after another registration has found it abandoned: it gives no session.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_registration_that_gave_way_to_another_one_is_told_so() {
    let direct = new_database().await;
    let (proxy, url) = Proxy::before(&direct).await;
    let (platform, other) = (platform_on(&url, RegistrationMode::First).await, platform_on(&direct, RegistrationMode::First).await);
    let (visitor, other_visitor) = (platform.anonymous(), other.anonymous());
    let (slow, second) = (register("slow"), register("second"));
    let (appending, append) = stop_at(&proxy, APPEND);
    let second = async {
        appending.notified().await;
        age_registrations(&platform).await;
        let answer = other_visitor.post("/auth/register", &second).await;
        append.notify_one();
        answer
    };
    let (slow, second) = tokio::join!(visitor.post("/auth/register", &slow), second);
    slow.problem(409);
    other.anonymous().signed_in(&second.expect(201)).act("/projections/calls/rebuild").await.expect(202);
    let login = json!({"email": "slow@example.com", "password": "correct horse"});
    visitor.post("/auth/login", &login).await.problem(401);
    other.stop().await;
    platform.stop().await;
}

/// The process died between the log and the confirmation of the credentials: the first login confirms them.
#[tokio::test]
async fn a_registration_that_is_in_the_log_is_completed_by_the_first_login() {
    let platform = platform(RegistrationMode::Open).await;
    let visitor = platform.anonymous();
    visitor.post("/auth/register", &register("a")).await.expect(201);
    sqlx::query("update user_credentials set pending_since = now()").execute(&platform.app().owner).await.unwrap();
    visitor.post("/auth/login", &json!({"email": "a@example.com", "password": "correct horse"})).await.expect(200);
    platform.stop().await;
}

#[tokio::test]
async fn where_registration_is_open_its_companies_do_not_run_the_installation() {
    let platform = platform(RegistrationMode::Open).await;
    let admin = platform.admin().await;
    for action in ["rebuild", "restore", "retry"] {
        admin.act(&format!("/projections/calls/{action}")).await.problem(403);
    }
    platform.stop().await;
}

#[tokio::test]
async fn where_registration_is_closed_nobody_registers() {
    let platform = platform(RegistrationMode::Closed).await;
    platform.anonymous().post("/auth/register", &register("a")).await.problem(403);
    let users: i64 = sqlx::query_scalar("select count(*) from user_credentials").fetch_one(&platform.app().owner).await.unwrap();
    assert_eq!(users, 0);
    platform.stop().await;
}

fn newvoice(url: &str, key: &str, args: &[&str]) -> Output {
    let mut command = Command::new(binary("newvoice"));
    command.args(args).env("DATABASE_URL", url).env("NEWVOICE_MASTER_KEY", key).env("NO_COLOR", "1").output().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operators_are_made_and_unmade_on_the_machine() {
    let platform = platform(RegistrationMode::Open).await;
    let (visitor, url) = (platform.anonymous(), platform.database_url.clone());
    let admin = platform.anonymous().signed_in(&visitor.post("/auth/register", &register("Ada")).await.expect(201));
    let operator = async |args: &[&str]| {
        let (url, args): (String, Vec<String>) = (url.clone(), args.iter().map(|arg| (*arg).to_owned()).collect());
        let output = tokio::task::spawn_blocking(move || {
            let args: Vec<&str> = std::iter::once("operator").chain(args.iter().map(String::as_str)).collect();
            newvoice(&url, MASTER_KEY, &args)
        });
        let output = output.await.unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    for action in ["add", "remove"] {
        let (code, _, error) = operator(&[action, "unknown@example.com"]).await;
        assert_eq!(code, Some(2), "{error}");
        assert!(error.lines().count() == 1 && error.contains("unknown@example.com"), "{error}");
    }
    assert_eq!(operator(&["add", " ADA@example.com"]).await.0, Some(0));
    assert!(operator(&["list"]).await.1.contains("ada@example.com\tAda\tsince "));
    platform.app().services.identity.callers.forget_all();
    admin.act("/projections/calls/rebuild").await.expect(202);
    // The company's audit has the change.
    platform.app().audit.flush().await;
    let audit = admin.get("/audit").await.expect(200);
    assert!(audit["items"].as_array().unwrap().iter().any(|entry| entry["action"] == "operator add"), "{}", audit.body);
    assert_eq!(operator(&["remove", "ada@example.com"]).await.0, Some(0));
    assert!(operator(&["remove", "ada@example.com"]).await.1.contains("is not an operator"));
    platform.app().services.identity.callers.forget_all();
    admin.act("/projections/calls/retry").await.problem(403);
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_use_is_told_in_one_line_and_changes_nothing() {
    let url = new_database().await;
    let platform = Platform::start_on(&url).await;
    let other = "42".repeat(32);
    let run = async |key: String, args: &'static [&'static str]| {
        let url = url.clone();
        tokio::task::spawn_blocking(move || newvoice(&url, &key, args)).await.unwrap()
    };
    for (key, args, told) in [
        (
            MASTER_KEY.to_owned(),
            &["--registration", "sometimes"][..],
            "'sometimes' for '--registration <REGISTRATION>'; [possible values: first,",
        ),
        (MASTER_KEY.to_owned(), &["operator", "add"], "required arguments were not provided"),
        (MASTER_KEY.to_owned(), &["--no-such-option"], "'--no-such-option'"),
        // There is no company yet, and the key is still refused.
        (other, &["--listen", "127.0.0.1:0"], "master key is not the one"),
        ("short".to_owned(), &["--listen", "127.0.0.1:0"], "NEWVOICE_MASTER_KEY has no master key: a master key has 64 hexadecimal digits"),
        ("short".to_owned(), &["operator", "list"], "NEWVOICE_MASTER_KEY has no master key"),
    ] {
        let refused = run(key, args).await;
        let error = String::from_utf8(refused.stderr).unwrap();
        assert_eq!((refused.status.code(), error.lines().count()), (Some(2), 1), "{error}");
        assert!(error.contains(told), "{error}");
    }
    platform.admin().await.get("/campaigns").await.expect(200);
    platform.stop().await;
}

/// Otherwise the key of such a command would become the installation's key, and the server would be refused with its own key.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_on_a_database_without_an_installation_are_refused_and_nothing_is_made() {
    for (url, is_migrated) in [(empty_database().await, false), (new_database().await, true)] {
        for args in [&["operator", "list"][..], &["operator", "add", "ada@example.com"], &["rotate-signing-key"]] {
            let address = url.clone();
            let refused = tokio::task::spawn_blocking(move || newvoice(&address, &"42".repeat(32), args)).await.unwrap();
            let error = String::from_utf8(refused.stderr).unwrap();
            assert_eq!((refused.status.code(), error.lines().count()), (Some(2), 1), "{error}");
            assert!(error.contains("there is no platform"), "{error}");
        }
        if !is_migrated {
            let database = sqlx::PgPool::connect(&url).await.unwrap();
            let schemas: i64 =
                sqlx::query_scalar("select count(*) from pg_namespace where nspname = 'newvoice'").fetch_one(&database).await.unwrap();
            assert_eq!(schemas, 0);
        }
        // The first start of the server sets the key.
        Platform::start_on(&url).await.stop().await;
    }
}

/// A connection pooler in between drops the option that selects our schema: no migration runs in another schema.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pooler_between_platform_and_database_is_refused() {
    let url = empty_database().await;
    let port: u16 = url.rsplit_once(':').unwrap().1.split_once('/').unwrap().0.parse().unwrap();
    let pooler = Proxy::start(port).await;
    pooler.drop_options();
    let through = url.replace(&format!(":{port}/"), &format!(":{}/", pooler.port));
    let refused = tokio::task::spawn_blocking(move || newvoice(&through, MASTER_KEY, &["--listen", "127.0.0.1:0"])).await.unwrap();
    let error = String::from_utf8(refused.stderr).unwrap();
    assert_eq!((refused.status.code(), error.lines().count()), (Some(2), 1), "{error}");
    assert!(error.contains("PgBouncer") && error.contains("search_path"), "{error}");
    let database = sqlx::PgPool::connect(&url).await.unwrap();
    let made: i64 = sqlx::query_scalar("select count(*) from pg_tables where schemaname not in ('pg_catalog', 'information_schema')")
        .fetch_one(&database)
        .await
        .unwrap();
    assert_eq!(made, 0);
}

/// As it is delivered, PgBouncer answers a start with a parameter that it does not know with this error.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pooler_that_refuses_the_start_of_a_connection_is_refused_in_one_sentence() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let pooler = tokio::spawn(async move {
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            let mut start = vec![0; 4];
            client.read_exact(&mut start).await.unwrap();
            let mut rest = vec![0; usize::try_from(u32::from_be_bytes(start.try_into().unwrap())).unwrap() - 4];
            client.read_exact(&mut rest).await.unwrap();
            let fields = b"SFATAL\0C08P01\0Munsupported startup parameter: extra_float_digits\0\0";
            let length = u32::try_from(fields.len() + 4).unwrap().to_be_bytes();
            client.write_all(&[b"E".as_slice(), &length, fields].concat()).await.unwrap();
        }
    });
    let url = format!("postgres://newvoice@127.0.0.1:{port}/newvoice?sslmode=disable");
    let refused = tokio::task::spawn_blocking(move || newvoice(&url, MASTER_KEY, &["--listen", "127.0.0.1:0"])).await.unwrap();
    pooler.abort();
    let error = String::from_utf8(refused.stderr).unwrap();
    assert_eq!((refused.status.code(), error.lines().count()), (Some(2), 1), "{error}");
    assert!(error.contains("PgBouncer") && error.contains("extra_float_digits"), "{error}");
}

/// Every request through a misconfigured proxy has the fault: the log tells it once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_whose_addresses_cannot_be_read_is_told_once() {
    let (url, log) = (new_database().await, tempfile::NamedTempFile::new().unwrap());
    let process = Process::start(|command| {
        command.env("DATABASE_URL", &url).env("NEWVOICE_MASTER_KEY", MASTER_KEY).env("NEWVOICE_REGISTRATION", "open");
        command.env("NEWVOICE_BEHIND_PROXY", "x-forwarded-for").stderr(log.reopen().unwrap());
    })
    .await;
    for n in 0..5 {
        let request = process.client.request(reqwest::Method::GET, "/campaigns").header("x-forwarded-for", format!("unknown-{n}"));
        process.client.send(request).await.expect(200);
    }
    drop(process);
    let log = std::fs::read_to_string(log.path()).unwrap();
    assert_eq!(log.matches("names no client address that can be read").count(), 1, "{log}");
    assert_eq!(log.matches("unknown-").count(), 1, "{log}");
}

/// Two processes with different keys start on an empty database at the same time: one of them becomes the platform, the other stops.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_master_keys_on_an_empty_database_one_wins() {
    for _ in 0..3 {
        let url = empty_database().await;
        let open = |key: String| {
            let settings = StoreSettings { master_key: Some(key.parse().unwrap()), ..settings(&url).store };
            async move { eventstore::Database::open(&settings.database(Some(key.parse().unwrap()))).await.map(|database| (key, database)) }
        };
        let (first, second) = tokio::join!(open("01".repeat(32)), open("02".repeat(32)));
        let ((key, database), refused) = match (first, second) {
            (Ok(won), Err(refused)) | (Err(refused), Ok(won)) => (won, refused),
            (first, second) => panic!("{:?} {:?}", first.err(), second.err()),
        };
        assert!(matches!(refused, OpenError::OtherMasterKey), "{refused}");
        // The process that won still works: its roles have its own passwords.
        database.access.company(Uuid::nil()).await.unwrap();
        database.close().await;
        assert!(open(key).await.is_ok());
    }
}
