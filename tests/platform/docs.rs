use std::process::Command;

use support::Platform;

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
