//! Claims under kills: a claim that is repeated under its key is answered soon after the restart, wherever its first try was interrupted,
//! and limits are kept. `NEWVOICE_TEST_CLAIM_KILLS` and `NEWVOICE_TEST_CLAIM_POINTS` make the test longer.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{Arc, LazyLock, Mutex},
    time::Duration,
};

use eventstore::database::EmbeddedServer;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use reqwest::Method;
use serde_json::{Value, json};
use support::{Answer, Client, Cut, MASTER_KEY, Proxy, binary, new_database, seed, setting};
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

static NEWVOICE: LazyLock<PathBuf> = LazyLock::new(|| binary("newvoice"));

/// More than six workers can claim and complete between two kills.
const CLAIMS_BETWEEN_KILLS_MAX: usize = 600;

/// A platform in a separate process, which can be killed and restarted.
struct Node {
    url: String,
    port: u16,
    child: Arc<Mutex<Child>>,
}

impl Node {
    fn start(url: &str) -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = Arc::new(Mutex::new(spawn(url, port)));
        Self { url: url.to_owned(), port, child }
    }

    fn client(&self) -> Client {
        Client::new(&format!("http://127.0.0.1:{}", self.port), None)
    }

    fn restart(&self) {
        let mut child = self.child.lock().unwrap();
        child.wait().unwrap();
        *child = spawn(&self.url, self.port);
    }

    /// Returns once it is ready.
    async fn ready(&self) {
        let address = format!("http://127.0.0.1:{}/readyz", self.port);
        for _ in 0..3_000 {
            if reqwest::get(&address).await.is_ok_and(|answer| answer.status() == 200) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("it was never ready");
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let mut child = self.child.lock().unwrap();
        let _ = child.kill();
        let _ = child.wait();
    }
}

fn spawn(url: &str, port: u16) -> Child {
    let mut command = Command::new(&*NEWVOICE);
    command.args(["--listen", &format!("127.0.0.1:{port}"), "--seal-every-sec", "0", "--drain-sec", "0"]);
    // Calls of the simulator last longer than a test.
    command.env("DATABASE_URL", url).env("NEWVOICE_MASTER_KEY", MASTER_KEY).env("NEWVOICE_SIMULATOR_SPEED", "0.001");
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// A company with a running campaign of `contacts` tasks.
async fn campaign(node: &Node, contacts: usize, max_concurrent_calls: u32) -> (Client, String) {
    node.ready().await;
    let body = json!({"email": "a@example.com", "password": "correct horse", "company_name": "A"});
    let registered = node.client().post("/auth/register", &body).await.expect(201);
    let admin = node.client().signed_in(&registered);
    // An API key is valid longer than any token.
    let key = admin.post("/api-keys", &json!({"name": "k", "role": "admin"})).await.expect(201);
    let admin = admin.with_token(key["key"].as_str().unwrap());
    let limits = json!({"max_concurrent_calls": max_concurrent_calls, "calls_per_minute": 100_000});
    let id = admin.campaign(limits).await;
    let rows: String = (0..contacts).map(|i| format!("+420601{i:06}\n")).collect();
    let answer = admin.upload(&id, "list.csv", format!("phone_number\n{rows}").into_bytes()).await.expect(200);
    assert_eq!(answer["created"], contacts, "{}", answer["errors"]);
    admin.act(&format!("/campaigns/{id}/start")).await.expect(200);
    (admin, id)
}

/// Sends a request during which the connection may break; `None` if it does.
async fn try_send(client: &Client, path: &str, key: &str, body: Option<&Value>) -> Option<Answer> {
    let request = client.request(Method::POST, path).header("idempotency-key", key).timeout(Duration::from_secs(10));
    let request = match body {
        Some(body) => request.json(body),
        None => request,
    };
    let response = request.send().await.ok()?;
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let bytes = response.bytes().await.ok()?;
    let body = if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).unwrap() };
    Some(Answer { status, headers, body })
}

/// How long a claim may be repeated until it is answered, including a restart of the platform.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Repeats the request until it gets a final answer.
async fn answered(client: &Client, path: &str, key: &str, body: Option<&Value>) -> Answer {
    // Much shorter than the minute after which all slots are checked.
    let until = Instant::now() + ANSWER_TIMEOUT;
    while Instant::now() < until {
        match try_send(client, path, key, body).await {
            Some(answer) if answer.status < 500 && answer.status != 409 => return answer,
            _ => tokio::time::sleep(Duration::from_millis(25)).await,
        }
    }
    panic!("{path} was never answered");
}

/// Checks the log of the campaign: no task is claimed by two calls at once, the number in progress never exceeds the limit, and every claim
/// was answered to its client.
async fn audit(admin: &Client, claimed: &HashMap<String, String>, max_concurrent_calls: usize) {
    let mut events: Vec<Value> = Vec::new();
    let mut after = 0;
    loop {
        let page = admin.get(&format!("/events?category=task&limit=200&after={after}")).await.expect(200);
        let items = page["items"].as_array().unwrap();
        let Some(last) = items.last() else { break };
        after = last["position"].as_i64().unwrap();
        events.extend(items.iter().cloned());
    }
    let (mut in_progress, mut most) = (HashSet::new(), 0);
    let mut claims: BTreeMap<String, String> = BTreeMap::new();
    for event in &events {
        let stream = event["stream"].as_str().unwrap().to_owned();
        match event["event_type"].as_str().unwrap() {
            "TaskClaimed" => {
                assert!(in_progress.insert(stream.clone()), "{stream} was claimed twice");
                let call = event["payload"]["call_id"].as_str().unwrap().to_owned();
                assert_eq!(claims.insert(call.clone(), stream), None, "call {call} claimed two tasks");
            }
            "TaskCompleted" => assert!(in_progress.remove(&stream)),
            _ => {}
        }
        most = most.max(in_progress.len());
    }
    assert!(most <= max_concurrent_calls, "{most} in progress at once");
    for (call, task) in claimed {
        assert_eq!(claims.get(call).map(String::as_str), Some(format!("task-{task}").as_str()), "call {call}");
    }
    assert_eq!(claims.len(), claimed.len(), "claims that no client knows of");
}

/// Runs `verify` and `compare all`, as an operator does.
async fn require_sound(url: &str) {
    let url = url.to_owned();
    let checked = tokio::task::spawn_blocking(move || {
        for args in [&["verify"][..], &["compare", "all"]] {
            let mut command = Command::new(binary("replay-tool"));
            let output = command.args(args).env("DATABASE_URL", &url).env("NEWVOICE_MASTER_KEY", MASTER_KEY).output().unwrap();
            assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stdout));
        }
    });
    checked.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claims_continue_although_the_process_is_killed_repeatedly() {
    const CONCURRENT: u32 = 4;
    let kills = setting("NEWVOICE_TEST_CLAIM_KILLS", 6);
    let url = new_database().await;
    let node = Node::start(&url);
    let (admin, id) = campaign(&node, CLAIMS_BETWEEN_KILLS_MAX * (kills + 1), CONCURRENT).await;
    // When the platform was last ready; `None` while it is down.
    let (ready, _) = watch::channel(Some(Instant::now()));
    let (stop, stopped) = watch::channel(false);
    let claimed: Arc<Mutex<HashMap<String, String>>> = Arc::default();
    let slowest: Arc<Mutex<Duration>> = Arc::default();
    let path = format!("/campaigns/{id}/tasks/claim");
    let workers: Vec<_> = (0..6)
        .map(|worker| {
            let (admin, path, ready, stopped) =
                (admin.with_token(admin.token.as_ref().unwrap()), path.clone(), ready.clone(), stopped.clone());
            let (claimed, slowest) = (Arc::clone(&claimed), Arc::clone(&slowest));
            tokio::spawn(async move {
                let mut n = 0;
                while !*stopped.borrow() {
                    n += 1;
                    let sent = Instant::now();
                    let answer = answered(&admin, &path, &format!("{worker}-{n}"), None).await;
                    // For a claim that waited for a restart, the time is measured from when the platform was ready.
                    if let Some(since) = *ready.borrow()
                        && sent < since
                    {
                        let mut slowest = slowest.lock().unwrap();
                        *slowest = slowest.max(since.elapsed());
                    }
                    if answer.status == 204 {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                        continue;
                    }
                    let answer = answer.expect(200);
                    let (id, call) = (answer["task"]["id"].as_str().unwrap(), answer["call_id"].as_str().unwrap());
                    let before = claimed.lock().unwrap().insert(call.to_owned(), id.to_owned());
                    assert_eq!(before, None, "two keys have the call {call}");
                    let done = json!({"call_id": call, "outcome": "success"});
                    answered(&admin, &format!("/tasks/{id}/complete"), &format!("{worker}-{n}"), Some(&done)).await.expect(200);
                }
            })
        })
        .collect();
    let mut rng = StdRng::seed_from_u64(seed());
    for _ in 0..kills {
        tokio::time::sleep(Duration::from_millis(rng.random_range(50..600))).await;
        ready.send_replace(None);
        node.child.lock().unwrap().kill().unwrap();
        node.restart();
        node.ready().await;
        ready.send_replace(Some(Instant::now()));
        // The campaign continues: there must be more claims than slots that a kill may have left.
        let before = claimed.lock().unwrap().len();
        for _ in 0..400 {
            if claimed.lock().unwrap().len() > before + CONCURRENT as usize {
                break;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        assert!(claimed.lock().unwrap().len() > before + CONCURRENT as usize, "the campaign stands still");
    }
    stop.send(true).unwrap();
    for worker in workers {
        worker.await.unwrap();
    }
    println!("{kills} kills, {} claims; slowest answer after readiness: {:?}", claimed.lock().unwrap().len(), slowest.lock().unwrap());
    let claimed = claimed.lock().unwrap().clone();
    audit(&admin, &claimed, CONCURRENT as usize).await;
    drop(node);
    require_sound(&url).await;
}

/// A statement of a claim, and whether the cut is before or after it.
const POINTS: [(&str, &[&str], Cut); 6] = [
    ("before the slot", &["take_claim_slot"], Cut::Before),
    ("between slot and append", &["take_claim_slot"], Cut::After),
    ("between append and its acknowledgement", &["require_as_predicted", "from append_events("], Cut::After),
    ("between append and confirmation", &["as \"confirmed!\""], Cut::Before),
    ("between confirmation and answer", &["as \"confirmed!\""], Cut::After),
    ("between the stored answer and its client", &["update idempotency_keys set status"], Cut::After),
];

/// The campaign allows one attempt at a time, so that a leaked slot would block all claims.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_that_is_cut_off_at_any_point_by_a_kill_of_the_process_is_answered() {
    let rounds = setting("NEWVOICE_TEST_CLAIM_POINTS", 1);
    let url = new_database().await;
    let proxy = Proxy::start(port_of(&url)).await;
    let node = Node::start(&url.replace(&format!(":{}/", port_of(&url)), &format!(":{}/", proxy.port)));
    let (admin, id) = campaign(&node, POINTS.len() * rounds + 10, 1).await;
    let child = Arc::clone(&node.child);
    let kill = move || child.lock().unwrap().kill().unwrap();
    let claimed = claim_at_each_point(&proxy, &admin, &id, rounds, kill, async || {
        node.restart();
        node.ready().await;
    });
    audit(&admin, &claimed.await, 1).await;
    drop(node);
    require_sound(&url).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_that_is_cut_off_at_any_point_by_a_crash_of_postgres_is_answered() {
    let rounds = setting("NEWVOICE_TEST_CLAIM_POINTS", 1);
    let dir = tempfile::Builder::new().prefix("nvc").tempdir_in("/tmp").unwrap();
    std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let server = Arc::new(EmbeddedServer::start(dir.path()).await.unwrap());
    tokio::spawn(EmbeddedServer::watch(Arc::downgrade(&server)));
    let password = std::fs::read_to_string(dir.path().join("password")).unwrap();
    let url = |port| format!("postgres://newvoice:{}@127.0.0.1:{port}/newvoice", password.trim());
    let proxy = Proxy::start(server.options().get_port()).await;
    let node = Node::start(&url(proxy.port));
    let (admin, id) = campaign(&node, POINTS.len() * rounds + 10, 1).await;
    let pid_file = dir.path().join("postgres/postmaster.pid");
    let crash = move || {
        let pid = std::fs::read_to_string(&pid_file).unwrap().lines().next().unwrap().to_owned();
        // An immediate shutdown is a crash: PostgreSQL writes no more data, and the next start recovers.
        assert!(Command::new("kill").args(["-QUIT", &pid]).status().unwrap().success());
    };
    let claimed = claim_at_each_point(&proxy, &admin, &id, rounds, crash, async || {
        // The platform stays ready until it notices that its database is gone.
        tokio::time::sleep(Duration::from_millis(300)).await;
        node.ready().await;
    });
    audit(&admin, &claimed.await, 1).await;
    let port = server.options().get_port();
    drop(node);
    require_sound(&url(port)).await;
}

/// The statements of a claim of the dialer. The platform's other appends have no claim among their events.
const DIALER_POINTS: [(&str, &[&str], Cut); 5] = [
    ("before the dialer's slot", &["take_claim_slot"], Cut::Before),
    ("between the dialer's slot and append", &["TaskClaimed"], Cut::Before),
    ("between the dialer's append and its acknowledgement", &["TaskClaimed"], Cut::After),
    ("between the dialer's append and confirmation", &["as \"confirmed!\""], Cut::Before),
    ("after the dialer's confirmation", &["as \"confirmed!\""], Cut::After),
];
/// Attempts of a campaign at once.
const DIALER_LIMIT: usize = 2;

/// A slot that the dialer took before it was killed blocks no call: the campaign has as many attempts as before, and no more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_of_the_dialer_that_is_cut_off_at_any_point_blocks_no_other() {
    let rounds = setting("NEWVOICE_TEST_CLAIM_POINTS", 1);
    let url = new_database().await;
    let proxy = Proxy::start(port_of(&url)).await;
    let node = Node::start(&url.replace(&format!(":{}/", port_of(&url)), &format!(":{}/", proxy.port)));
    let (admin, _) = campaign(&node, 1, 1).await;
    for (point, needles, cut) in DIALER_POINTS {
        let mut slowest = Duration::ZERO;
        for round in 0..rounds {
            let id =
                admin.campaign(json!({"dialed_by": "simulator", "max_concurrent_calls": DIALER_LIMIT, "calls_per_minute": 1_000})).await;
            let rows: String = (0..5).map(|i| format!("+420602{i:06}\n")).collect();
            admin.upload(&id, "list.csv", format!("phone_number\n{rows}").into_bytes()).await.expect(200);
            let (child, killed) = (Arc::clone(&node.child), Arc::new(Notify::new()));
            let done = Arc::clone(&killed);
            proxy.set_trap(needles, cut, move || {
                child.lock().unwrap().kill().unwrap();
                done.notify_one();
            });
            // The dialer may be killed before this is answered.
            drop(try_send(&admin, &format!("/campaigns/{id}/start"), &format!("start {id}"), None).await);
            let killed = tokio::time::timeout(ANSWER_TIMEOUT, killed.notified()).await;
            killed.unwrap_or_else(|_| panic!("{point}: the statement never came"));
            node.restart();
            node.ready().await;
            let ready = Instant::now();
            let dialed = async {
                let stats = format!("/campaigns/{id}/stats");
                while admin.send(admin.request(Method::GET, &stats)).await["tasks"]["in_progress"] != DIALER_LIMIT {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            };
            tokio::time::timeout(ANSWER_TIMEOUT, dialed).await.unwrap_or_else(|_| panic!("{point}, round {round}: calls are missing"));
            slowest = slowest.max(ready.elapsed());
            answered(&admin, &format!("/campaigns/{id}/finish"), &format!("finish {id}"), None).await.expect(200);
            let claimed = admin.get(&format!("/campaigns/{id}/stats")).await.expect(200)["attempts"].clone();
            assert_eq!(claimed, DIALER_LIMIT, "{point}, round {round}");
        }
        println!("{point}: {rounds} times; slowest return to all calls after readiness: {slowest:?}");
    }
    drop(node);
    require_sound(&url).await;
}

fn port_of(url: &str) -> u16 {
    url.rsplit_once(':').unwrap().1.split_once('/').unwrap().0.parse().unwrap()
}

/// At each point: claims under a key, runs `strike` there, then `recover`, and repeats the claim until it is answered, which must be with a
/// task. Returns the claimed task of each call.
async fn claim_at_each_point(
    proxy: &Proxy,
    admin: &Client,
    campaign: &str,
    rounds: usize,
    strike: impl Fn() + Clone + Send + 'static,
    recover: impl AsyncFn(),
) -> HashMap<String, String> {
    let path = format!("/campaigns/{campaign}/tasks/claim");
    let mut claimed = HashMap::new();
    for (point, needles, cut) in POINTS {
        let mut slowest = Duration::ZERO;
        for round in 0..rounds {
            let key = format!("{point} {round}");
            proxy.set_trap(needles, cut, strike.clone());
            // Regardless of this answer, the same claim gets the same answer later. A connection that the previous strike broke may answer
            // 503 once.
            let mut first = None;
            for _ in 0..20 {
                first = try_send(admin, &path, &key, None).await;
                if proxy.has_sprung() {
                    break;
                }
            }
            assert!(proxy.has_sprung(), "{point}: the statement never came; {first:?}");
            recover().await;
            let ready = Instant::now();
            let answer = answered(admin, &path, &key, None).await;
            slowest = slowest.max(ready.elapsed());
            assert_eq!(answer.status, 200, "{point}, round {round}: {:?} {}", answer.header("reason"), answer.body);
            let (task, call) = (answer["task"]["id"].as_str().unwrap(), answer["call_id"].as_str().unwrap());
            claimed.insert(call.to_owned(), task.to_owned());
            let done = json!({"call_id": call, "outcome": "success"});
            answered(admin, &format!("/tasks/{task}/complete"), &key, Some(&done)).await.expect(200);
        }
        println!("{point}: {rounds} times; slowest answer after readiness: {slowest:?}");
    }
    claimed
}
