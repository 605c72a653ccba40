//! The schema that the migrations make, and databases of other builds.

use std::{fs, path::Path, process::Command};

use sqlx::{Connection as _, PgConnection};
use support::{MASTER_KEY, binary, new_database, postgres_binary};

/// `migrations/schema.sql` shows the result of all migrations in one file. To write it again: `NEWVOICE_WRITE_SCHEMA=1 cargo test schema`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_dumped_schema_is_what_the_migrations_make() {
    let url = new_database().await;
    let dumped = tokio::task::spawn_blocking(move || {
        let mut dump = Command::new(postgres_binary("pg_dump"));
        dump.args(["--schema-only", "--no-owner", "--no-privileges", "--schema=newvoice", "--exclude-table=newvoice._sqlx_migrations"]);
        // Partitions of the log are made while the platform works.
        dump.arg("--exclude-table=newvoice.events_from_*").arg(&url).output().unwrap()
    })
    .await
    .unwrap();
    assert!(dumped.status.success(), "{}", String::from_utf8_lossy(&dumped.stderr));
    let text = String::from_utf8(dumped.stdout).unwrap();
    // What depends on the program's version, and its own comments.
    let is_noise = |line: &str| ["--", "SET ", "SELECT pg_catalog.set_config", "\\"].iter().any(|start| line.starts_with(start));
    let mut schema =
        "-- The result of all migrations, as pg_dump shows it; the test in tests/platform/schema.rs writes and compares it.\n".to_owned();
    for line in text.lines().filter(|line| !is_noise(line)) {
        if !(line.is_empty() && schema.ends_with("\n\n")) {
            schema.push_str(line);
            schema.push('\n');
        }
    }
    let schema = format!("{}\n", schema.trim_end());
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("migrations/schema.sql");
    if std::env::var_os("NEWVOICE_WRITE_SCHEMA").is_some() {
        fs::write(&path, &schema).unwrap();
    }
    assert!(fs::read_to_string(&path).unwrap() == schema, "migrations/schema.sql is not what the migrations make");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_of_another_build_is_refused_in_one_sentence_and_stays_as_it_is() {
    for (what, change) in [
        ("an older build", "update newvoice._sqlx_migrations set version = version - 1000"),
        (
            "a newer build",
            "update newvoice._sqlx_migrations set version = 9999 where version = (select max(version) from newvoice._sqlx_migrations)",
        ),
    ] {
        let url = new_database().await;
        let mut owner = PgConnection::connect(&url).await.unwrap();
        sqlx::raw_sql(change).execute(&mut owner).await.unwrap();
        let state = "select array_agg(version order by version)::text || (select count(*) from pg_class) from newvoice._sqlx_migrations";
        let before: String = sqlx::query_scalar(state).fetch_one(&mut owner).await.unwrap();
        let address = url.clone();
        let refused = tokio::task::spawn_blocking(move || {
            let mut command = Command::new(binary("newvoice"));
            command.args(["--listen", "127.0.0.1:0"]).env("DATABASE_URL", address).env("NEWVOICE_MASTER_KEY", MASTER_KEY).output().unwrap()
        });
        let refused = refused.await.unwrap();
        let error = String::from_utf8(refused.stderr).unwrap();
        assert_eq!((refused.status.code(), error.lines().count()), (Some(2), 1), "{error}");
        assert!(error.contains(what), "{error}");
        let after: String = sqlx::query_scalar(state).fetch_one(&mut owner).await.unwrap();
        assert_eq!(before, after);
    }
}
