use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Output},
    time::Duration,
};

use serde_json::json;
use support::{Platform, Process, binary, empty_database, new_database, postgres_binary};

/// Runs the blocks of `docs/walk.md` as a reader would.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_walk_works_as_written() {
    let walk = include_str!("../../docs/walk.md");
    let script: String = walk.split("```bash\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    let platform = Platform::start().await;
    let base = platform.base();
    let dir = tempfile::tempdir().unwrap();
    let run =
        move || Command::new("bash").args(["-e", "-o", "pipefail", "-c", &script]).env("BASE", base).current_dir(&dir).output().unwrap();
    let output = tokio::task::spawn_blocking(run).await.unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("Row 4: not a phone number") && text.contains(r#""success":1"#), "{text}");
    platform.stop().await;
}

/// The blocks of a section of `docs/operating.md`.
fn blocks_of_operating(section: &str) -> Vec<&'static str> {
    let text = include_str!("../../docs/operating.md").split(&format!("\n## {section}\n")).nth(1).unwrap();
    let text = text.split("\n## ").next().unwrap();
    text.split("```bash\n").skip(1).filter_map(|rest| rest.split("```").next()).collect()
}

/// A directory with the programs that the blocks call. `newvoice` runs for some seconds.
fn programs(dir: &Path) {
    fs::create_dir(dir).unwrap();
    let tools = [("replay-tool", binary("replay-tool"), ""), ("newvoice", binary("newvoice"), "timeout 5 ")];
    let postgres = ["pg_dump", "pg_restore"].map(|name| (name, postgres_binary(name), ""));
    for (name, path, before) in tools.into_iter().chain(postgres) {
        let script = format!("#!/bin/sh\n{before}'{}' \"$@\"\nstatus=$?\n[ $status = 124 ] || exit $status\n", path.display());
        let script = if before.is_empty() { format!("#!/bin/sh\nexec '{}' \"$@\"\n", path.display()) } else { script };
        fs::write(dir.join(name), script).unwrap();
        fs::set_permissions(dir.join(name), fs::Permissions::from_mode(0o755)).unwrap();
    }
}

/// A place where the platform runs: a database and a data directory.
struct Place<'a> {
    url: &'a str,
    data: &'a Path,
    dir: &'a Path,
}

impl Place<'_> {
    fn configure(&self, command: &mut Command) {
        command.env("DATABASE_URL", self.url).env("NEWVOICE_DATA_DIR", self.data).env("NEWVOICE_SEAL_EVERY_SEC", "1");
        command.env("NEWVOICE_REGISTRATION", "open").env_remove("NEWVOICE_MASTER_KEY");
    }

    async fn run(&self, script: &str) -> Output {
        let mut command = Command::new("bash");
        let path = format!("{}:{}", self.dir.join("bin").display(), std::env::var("PATH").unwrap());
        command.args(["-e", "-o", "pipefail", "-c", script]).current_dir(self.dir).env("PATH", path);
        command.env("SECRETS", self.dir.join("secrets")).env("NEWVOICE_LISTEN", "127.0.0.1:0");
        self.configure(&mut command);
        tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
    }

    #[track_caller]
    fn assert_done(output: &Output) {
        let (said, failed) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{said}\n{failed}");
    }
}

/// Runs the blocks about backups as an operator would, at two places.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_is_restored_as_written_and_its_log_stays_sound() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    fs::create_dir(dir.join("secrets")).unwrap();
    let blocks = blocks_of_operating("Backup and restore");
    let [backup, restore] = blocks[..] else { panic!("{} blocks", blocks.len()) };

    let (url, data) = (new_database().await, dir.join("first"));
    programs(&dir.join("bin"));
    let first = Place { url: &url, data: &data, dir };
    let process = Process::start(|command| first.configure(command)).await;
    let campaign = process.client.running_campaign(3, json!({})).await;
    let tasks = process.client.get(&format!("/campaigns/{campaign}/tasks")).await.expect(200).body;
    drop(process);
    Place::assert_done(&first.run(backup).await);

    let (url, data) = (empty_database().await, dir.join("second"));
    let second = Place { url: &url, data: &data, dir };
    Place::assert_done(&second.run(restore).await);
    let process = Process::start(|command| second.configure(command)).await;
    assert_eq!(process.client.get(&format!("/campaigns/{campaign}/tasks")).await.expect(200).body, tasks, "numbers and names are readable");
    let verify = r#"replay-tool verify --json --seals seals.jsonl --seal-key "$SECRETS/seal-key.pub""#;
    let sealed_until = async || {
        let verified = second.run(verify).await;
        Place::assert_done(&verified);
        serde_json::from_slice::<serde_json::Value>(&verified.stdout).unwrap()["sealed_until"].as_i64().unwrap()
    };
    let sealed = async |position: i64| {
        for _ in 0..60 {
            if sealed_until().await >= position {
                return;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        panic!("position {position} is not sealed");
    };
    // A seal of the new place, and one with a new key: the public key that was stored with the backup is enough for both.
    sealed(process.client.act(&format!("/campaigns/{campaign}/pause")).await.expect(200).position()).await;
    Place::assert_done(&second.run("newvoice rotate-seal-key").await);
    sealed(process.client.act(&format!("/campaigns/{campaign}/resume")).await.expect(200).position()).await;
    Place::assert_done(&second.run("replay-tool seals > later.jsonl; test \"$(grep -c named_by later.jsonl)\" = 1").await);
    // The new public key is enough, too.
    Place::assert_done(&second.run(r#"replay-tool verify --seal-key "$NEWVOICE_DATA_DIR/seal-key.pub""#).await);
}

/// Another key would make everything personal unreadable, and hide that the right one is missing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_master_key_is_created_for_a_database_that_has_one() {
    let platform = Platform::start().await;
    platform.admin().await;
    let data = tempfile::tempdir().unwrap();
    let mut command = Command::new(binary("newvoice"));
    command.args(["serve", "--listen", "127.0.0.1:0"]).env("DATABASE_URL", &platform.database_url);
    command.env("NEWVOICE_DATA_DIR", data.path()).env_remove("NEWVOICE_MASTER_KEY");
    let refused = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(2), "{said}");
    assert!(said.contains("there is no master key in") && fs::read_dir(data.path()).unwrap().next().is_none(), "{said}");
    platform.stop().await;
}
