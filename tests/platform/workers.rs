//! The engine that runs workers, and what operators see of it. The engine is tested with workers of the test.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use eventstore::StoredEvent;
use serde_json::{Value, json};
use services::ServiceError;
use sqlx::Executor as _;
use support::{Client, Platform};
use tokio::{sync::watch, task::JoinHandle};
use workers::engine::{Due, DueWork, Engine, FollowsLog, ItemKey, Lease, LogWork, Next, Worker};

/// What workers did, and what they refuse to do. Clones share it.
#[derive(Clone, Default)]
struct Notes(Arc<Mutex<(Vec<String>, Vec<String>)>>);

impl Notes {
    fn refuse(&self, items: &[&str]) {
        self.0.lock().unwrap().1 = items.iter().map(|item| (*item).to_owned()).collect();
    }

    fn done(&self) -> Vec<String> {
        self.0.lock().unwrap().0.clone()
    }

    fn handle(&self, item: &str) -> Result<(), ServiceError> {
        let mut notes = self.0.lock().unwrap();
        if notes.1.iter().any(|refused| refused == item) {
            return Err(ServiceError::forbidden("the worker refuses it"));
        }
        notes.0.push(item.to_owned());
        Ok(())
    }
}

/// An engine in a process of its own, as far as the database knows.
struct Running {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Running {
    fn start(platform: &Platform, workers: Vec<Box<dyn Worker>>) -> Self {
        let app = platform.app();
        let (stop, shutdown) = watch::channel(false);
        let engine = Engine { pool: app.access.work.clone(), health: app.store.head().health().clone(), shutdown };
        Self { stop, task: tokio::spawn(engine.run(workers)) }
    }

    async fn stop(self) {
        self.stop.send(true).unwrap();
        self.task.await.unwrap();
    }
}

/// Waits until it is so; fails after a minute.
async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let waited = tokio::time::timeout(Duration::from_secs(60), async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("{what}"));
}

async fn state_of(operator: &Client, worker: &str) -> Value {
    let workers = operator.get("/workers").await.expect(200);
    workers["items"].as_array().unwrap().iter().find(|found| found["name"] == worker).cloned().unwrap_or_default()
}

/// Its work is whatever of `items` is not done.
struct Chores {
    items: Vec<&'static str>,
    notes: Notes,
}

#[async_trait]
impl DueWork for Chores {
    type Item = &'static str;

    fn name(&self) -> &'static str {
        "chores"
    }

    fn every(&self) -> Duration {
        Duration::from_millis(20)
    }

    async fn due(&self, limit: i64) -> Result<Vec<&'static str>, ServiceError> {
        let done = self.notes.done();
        let open = self.items.iter().filter(|item| !done.contains(&(**item).to_owned()));
        Ok(open.take(usize::try_from(limit).unwrap()).copied().collect())
    }

    fn key(&self, item: &&'static str) -> ItemKey {
        ItemKey { company_id: None, item: (*item).to_owned() }
    }

    async fn handle(&self, item: &&'static str, _lease: &Lease) -> Result<(), ServiceError> {
        assert_ne!(*item, "panics");
        self.notes.handle(item)
    }
}

#[tokio::test]
async fn failed_work_is_tried_again_until_it_is_a_dead_letter_that_an_operator_revives() {
    let platform = Platform::start().await;
    let operator = platform.operator().await;
    let work = platform.app().access.work.clone();
    let notes = Notes::default();
    notes.refuse(&["stubborn"]);
    let items = vec!["first", "stubborn", "panics", "last"];
    let chores = Due::new(Chores { items, notes: notes.clone() }, work.clone());
    let engine = Running::start(&platform, vec![Box::new(chores)]);
    until("the others are done, the failures are recorded", async || {
        notes.done() == ["first", "last"] && state_of(&operator, "chores").await["failures"]["retrying"] == 2
    })
    .await;
    let failures = operator.get("/workers/chores/failures").await.expect(200);
    assert_eq!((&failures["items"][0]["item"], &failures["items"][1]["item"]), (&json!("panics"), &json!("stubborn")));
    assert_eq!(failures["items"][1]["error"], "the worker refuses it");
    assert!(failures["items"][0]["error"].as_str().unwrap().contains("panicked"));
    until("it is given up after ten attempts", async || {
        // The pauses between attempts take a quarter of an hour.
        work.execute("update worker_failures set retry_at = '-infinity' where retry_at is not null").await.unwrap();
        state_of(&operator, "chores").await["failures"] == json!({"retrying": 0, "dead": 2})
    })
    .await;
    let dead = operator.get("/workers/chores/failures").await.expect(200);
    // From here on nothing is tried again, so the pages can be compared.
    let page = operator.get("/workers/chores/failures?limit=1").await.expect(200);
    let next =
        operator.get(&format!("/workers/chores/failures?limit=1&cursor={}", page["next_cursor"].as_str().unwrap())).await.expect(200);
    assert_eq!((&page["items"][0], &next["items"][0]), (&dead["items"][0], &dead["items"][1]));
    assert_eq!((&dead["items"][1]["attempts"], &dead["items"][1]["retry_at"]), (&json!(10), &Value::Null));
    assert_eq!(state_of(&operator, "chores").await["status"], "stuck");
    notes.refuse(&[]);
    assert_eq!(operator.act("/workers/chores/retry").await.expect(200)["retried"], 2);
    until("what was stubborn is done", async || {
        notes.done() == ["first", "last", "stubborn"] && state_of(&operator, "chores").await["failures"]["dead"] == 0
    })
    .await;
    engine.stop().await;
    platform.stop().await;
}

/// It adds its name to the notes in each round, and its first round may last.
struct Clock {
    process: &'static str,
    notes: Notes,
    first_round: Duration,
}

#[async_trait]
impl Worker for Clock {
    fn name(&self) -> &'static str {
        "clock"
    }

    fn every(&self) -> Duration {
        Duration::from_millis(20)
    }

    async fn round(&mut self, lease: &Lease) -> Result<Next, ServiceError> {
        tokio::time::sleep(std::mem::take(&mut self.first_round)).await;
        self.notes.handle(&format!("{}{}", self.process, lease.token))?;
        Ok(Next::AfterPause)
    }
}

fn clock(process: &'static str, notes: &Notes, first_round: Duration) -> Vec<Box<dyn Worker>> {
    vec![Box::new(Clock { process, notes: notes.clone(), first_round })]
}

#[tokio::test]
async fn one_process_runs_a_worker_and_the_next_holder_has_a_higher_token() {
    let platform = Platform::start().await;
    let notes = Notes::default();
    let first = Running::start(&platform, clock("a", &notes, Duration::ZERO));
    until("the first process runs it", async || notes.done().contains(&"a1".to_owned())).await;
    let second = Running::start(&platform, clock("b", &notes, Duration::ZERO));
    let before = notes.done().len();
    until("it runs on", async || notes.done().len() > before + 100).await;
    assert!(notes.done().iter().all(|round| round == "a1"), "the other process waits");
    first.stop().await;
    until("the second process runs it", async || notes.done().last().is_some_and(|round| round == "b2")).await;
    second.stop().await;
    platform.stop().await;
}

#[tokio::test]
async fn a_round_ends_when_another_process_has_the_lease() {
    let platform = Platform::start().await;
    let work = platform.app().access.work.clone();
    let notes = Notes::default();
    let first = Running::start(&platform, clock("a", &notes, Duration::from_secs(3_600)));
    until("the first process has the lease", async || {
        let held = "select exists (select from workers where name = 'clock' and token = 1)";
        sqlx::query_scalar::<_, bool>(held).fetch_one(&work).await.unwrap()
    })
    .await;
    let second = Running::start(&platform, clock("b", &notes, Duration::ZERO));
    // As if the first process had been silent for the time of its lease.
    until("the second process has the lease", async || {
        work.execute("update workers set lease_until = '-infinity' where name = 'clock' and token = 1").await.unwrap();
        notes.done().last().is_some_and(|round| round == "b2")
    })
    .await;
    // The first process waits for its turn and does not go on with its round.
    first.stop().await;
    assert!(notes.done().iter().all(|round| round == "b2"));
    second.stop().await;
    platform.stop().await;
}

/// It notes each new skillbase.
struct Chronicle(Notes);

#[async_trait]
impl LogWork for Chronicle {
    fn name(&self) -> &'static str {
        "chronicle"
    }

    fn categories(&self) -> &'static [&'static str] {
        &["skillbase"]
    }

    async fn handle(&self, event: &StoredEvent, _lease: &Lease) -> Result<(), ServiceError> {
        self.0.handle(event.payload()?["content"]["name"].as_str().unwrap())
    }
}

#[tokio::test]
async fn a_worker_follows_the_log_from_its_first_start_and_failed_events_do_not_hold_up_others() {
    let platform = Platform::start().await;
    let operator = platform.operator().await;
    let (work, store) = (platform.app().access.work.clone(), platform.app().store.clone());
    let create = async |name: &str| {
        let body = json!({"name": name, "slug": name, "config": support::skillbase_config()});
        operator.post("/skillbases", &body).await.expect(201);
    };
    let notes = Notes::default();
    let follow = || -> Vec<Box<dyn Worker>> { vec![Box::new(FollowsLog::new(Chronicle(notes.clone()), work.clone(), store.clone()))] };
    create("before").await;
    let engine = Running::start(&platform, follow());
    until("it has a cursor", async || state_of(&operator, "chronicle").await["position"].is_i64()).await;
    notes.refuse(&["two"]);
    for name in ["one", "two", "three"] {
        create(name).await;
    }
    until("the other events are handled in their order", async || notes.done() == ["one", "three"]).await;
    until("it is at the end of the log", async || state_of(&operator, "chronicle").await["lag_events"] == 0).await;
    assert_eq!(state_of(&operator, "chronicle").await["status"], "failing");
    engine.stop().await;
    create("four").await;
    notes.refuse(&[]);
    work.execute("update worker_failures set retry_at = '-infinity'").await.unwrap();
    let engine = Running::start(&platform, follow());
    until("it continues where it was, and with what had failed", async || notes.done() == ["one", "three", "two", "four"]).await;
    until("nothing is left", async || state_of(&operator, "chronicle").await["failures"] == json!({"retrying": 0, "dead": 0})).await;
    engine.stop().await;
    platform.stop().await;
}

#[tokio::test]
async fn operators_see_every_worker_of_the_platform() {
    let platform = Platform::start().await;
    let operator = platform.operator().await;
    let names = ["dialing", "ended_campaigns", "expired_claims", "finished_campaigns", "log_partitions", "purge", "stale_claim_slots"];
    until("they run", async || {
        let workers = operator.get("/workers").await.expect(200);
        names
            .iter()
            .all(|name| workers["items"].as_array().unwrap().iter().any(|worker| worker["name"] == *name && worker["status"] == "ok"))
    })
    .await;
    let dialing = state_of(&operator, "dialing").await;
    assert!(dialing["last_round_at"].is_string() && dialing["next_due_at"].is_string(), "{dialing}");
    for unknown in ["nothing", "%00", "Dialing"] {
        operator.get(&format!("/workers/{unknown}/failures")).await.problem(404);
        operator.act(&format!("/workers/{unknown}/retry")).await.problem(404);
    }
    operator.get("/workers/dialing/failures?cursor=%00").await.problem(400);
    assert_eq!(operator.get("/workers/dialing/failures").await.expect(200)["items"], json!([]));
    assert_eq!(operator.act("/workers/dialing/retry").await.expect(200)["retried"], 0);
    platform.admin().await.get("/workers").await.problem(403);
    platform.stop().await;
}
