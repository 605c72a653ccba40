//! Claim slots in forced races: statements wait at a proxy until another event has happened.

use std::{sync::Arc, time::Duration};

use domain::{
    outcome::Outcome,
    task::{Task, TaskCommand},
};
use eventstore::{CommandContext, CommandIdentity, now};
use newvoice_api::settings::{Role, Settings};
use serde_json::json;
use services::{ClaimResult, Claimant, NothingToClaim, ServiceError};
use support::{Client, Platform, Proxy, new_database, settings};
use tokio::sync::Notify;
use uuid::Uuid;

const APPEND: &[&str] = &["require_as_predicted", "from append_events("];
const LEASE_SEC: u32 = 600;

type Claimed = Result<ClaimResult, ServiceError>;

/// A platform without background work.
async fn api_only(url: &str) -> Platform {
    Platform::start_with(Settings { roles: vec![Role::Api], ..settings(url) }).await
}

/// Without the platform's own work, which releases slots, too.
async fn api_and_projectors() -> Platform {
    Platform::configured(|settings| settings.roles = vec![Role::Api, Role::Projectors]).await
}

/// A running campaign with `contacts` tasks, one of which may be in progress at a time.
async fn one_line_campaign(admin: &Client, contacts: usize) -> (CommandContext, Uuid) {
    let id = admin.running_campaign(contacts, json!({"max_concurrent_calls": 1})).await;
    let company = admin.get("/auth/me").await["company"]["id"].as_str().unwrap().parse().unwrap();
    (CommandContext::system(company, "test", now()), id.parse().unwrap())
}

/// A claim of an external agent.
fn claim(platform: &Platform, of: &(CommandContext, Uuid), call_id: Uuid) -> impl Future<Output = Claimed> + Send + use<> {
    let (services, (context, campaign_id)) = (platform.app().services.clone(), of.clone());
    async move { services.claim_task(&context.into(), campaign_id, call_id, Claimant::External, LEASE_SEC).await }
}

/// The same as a run of a claim under a key: the first run, or a repeated one.
fn keyed_claim(
    platform: &Platform,
    of: &(CommandContext, Uuid),
    call_id: Uuid,
    comes_again: bool,
) -> impl Future<Output = Claimed> + Send + use<> {
    let (context, campaign_id) = of;
    let identity = CommandIdentity { id: call_id, begun_at: context.now, comes_again };
    claim(platform, &(CommandContext { identity: Some(identity), ..context.clone() }, *campaign_id), call_id)
}

/// Whether the call has an open slot, and whether it is confirmed.
async fn open_slot(platform: &Platform, call_id: Uuid) -> Option<bool> {
    let query = "select confirmed_at is not null from claim_slots where call_id = $1 and released_at is null";
    sqlx::query_scalar(query).bind(call_id).fetch_optional(&platform.app().owner).await.unwrap()
}

async fn until_confirmed(platform: &Platform, call_id: Uuid) {
    for _ in 0..400 {
        if open_slot(platform, call_id).await == Some(true) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("the call has no confirmed slot");
}

/// The same claim runs in two processes, because the first run was interrupted for a moment. The first run conflicts, because the campaign
/// has changed; the second run holds the slot by then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_that_loses_leaves_the_slot_that_another_run_of_it_has_taken_again() {
    let direct = new_database().await;
    let ((first_proxy, first_url), (second_proxy, second_url)) = (Proxy::before(&direct).await, Proxy::before(&direct).await);
    let (first, second, third) = (Platform::start_on(&first_url).await, api_only(&second_url).await, api_only(&direct).await);
    let admin = first.admin().await;
    let campaign = one_line_campaign(&admin, 3).await;
    let (call_id, other_call_id) = (Uuid::now_v7(), Uuid::now_v7());
    let [second_appends, go] = std::array::from_fn(|_| Arc::new(Notify::new()));
    let (appends, waits) = (Arc::clone(&second_appends), Arc::clone(&go));
    second_proxy.hold_at(APPEND, async move {
        appends.notify_one();
        waits.notified().await;
    });
    let (second_claims, other_claims) = (keyed_claim(&second, &campaign, call_id, true), claim(&third, &campaign, other_call_id));
    let (second_claimed, other_claimed) = (Arc::new(tokio::sync::Mutex::new(None)), Arc::new(tokio::sync::Mutex::new(None)));
    let (changer, path) = (admin.at(&third.base()), format!("/campaigns/{}", campaign.1));
    let (proxy, second_task, other_result) = (first_proxy.clone(), Arc::clone(&second_claimed), Arc::clone(&other_claimed));
    // The first run has its slot and is about to append; the log will refuse this append.
    first_proxy.hold_at(APPEND, async move {
        changer.put(&path, &json!({"name": "Changed"})).await.expect(200);
        *second_task.lock().await = Some(tokio::spawn(second_claims));
        second_appends.notified().await;
        // The first run has lost and acquires a slot once more: if it had released the slot of the second run, another claim would get a
        // slot now.
        proxy.hold_at(&["take_claim_slot"], async move {
            *other_result.lock().await = Some(other_claims.await);
            go.notify_one();
        });
    });
    let first_claim = keyed_claim(&first, &campaign, call_id, false).await.unwrap().claimed().unwrap();
    let second_claim = second_claimed.lock().await.take().unwrap().await.unwrap().unwrap().claimed().unwrap();
    assert_eq!((first_claim.call_id, first_claim.task_id), (second_claim.call_id, second_claim.task_id));
    let other = other_claimed.lock().await.take().unwrap().unwrap();
    assert_eq!(other, ClaimResult::Nothing(NothingToClaim::Concurrency), "one call may be in progress");
    until_confirmed(&first, call_id).await;
    for platform in [third, second, first] {
        platform.stop().await;
    }
}

/// The slot of a slow claim is deleted, as if its process were gone, and another claim acquires the task's slot. The first claim still
/// wins: it gets its task as the answer, and has a slot after the other claim has released its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_attempt_whose_tasks_slot_another_claim_has_gets_its_own_back() {
    let direct = new_database().await;
    let ((first_proxy, first_url), (second_proxy, second_url)) = (Proxy::before(&direct).await, Proxy::before(&direct).await);
    let (first, second) = (Platform::start_on(&first_url).await, api_only(&second_url).await);
    let admin = first.admin().await;
    let campaign = one_line_campaign(&admin, 1).await;
    let (call_id, other_call_id) = (Uuid::now_v7(), Uuid::now_v7());
    let [other_appends, go] = std::array::from_fn(|_| Arc::new(Notify::new()));
    let (appends, waits) = (Arc::clone(&other_appends), Arc::clone(&go));
    second_proxy.hold_at(APPEND, async move {
        appends.notify_one();
        waits.notified().await;
    });
    let (owner, other_claims) = (first.app().owner.clone(), claim(&second, &campaign, other_call_id));
    let other_claimed = Arc::new(tokio::sync::Mutex::new(None));
    let other_task = Arc::clone(&other_claimed);
    first_proxy.hold_at(APPEND, async move {
        sqlx::query("delete from claim_slots").execute(&owner).await.unwrap();
        *other_task.lock().await = Some(tokio::spawn(other_claims));
        other_appends.notified().await;
    });
    let claimed = claim(&first, &campaign, call_id).await.expect("the claim is in the log").claimed().unwrap();
    assert_eq!(open_slot(&first, call_id).await, None, "the task's slot is the other claim's");
    go.notify_one();
    let other = other_claimed.lock().await.take().unwrap().await.unwrap().unwrap();
    assert!(other.claimed().is_none(), "the task is in progress");
    until_confirmed(&first, call_id).await;
    assert_eq!(open_slot(&first, other_call_id).await, None);
    // It is an ordinary slot: the result of the attempt releases it.
    let done = json!({"call_id": call_id, "outcome": "success"});
    admin.post(&format!("/tasks/{}/complete", claimed.task_id), &done).await.expect(200);
    assert_eq!(open_slot(&first, call_id).await, None);
    second.stop().await;
    first.stop().await;
}

/// Until the append is answered, regardless of its duration, the claim may reach the log.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_whose_caller_is_cut_off_keeps_its_slot_while_its_append_is_on_its_way() {
    let (proxy, url) = Proxy::before(&new_database().await).await;
    let platform = Platform::start_on(&url).await;
    let admin = platform.admin().await;
    let campaign = one_line_campaign(&admin, 2).await;
    let (call_id, go) = (Uuid::now_v7(), Arc::new(Notify::new()));
    let waits = Arc::clone(&go);
    proxy.hold_at(APPEND, async move { waits.notified().await });
    let cut_off = tokio::time::timeout(Duration::from_millis(500), claim(&platform, &campaign, call_id)).await;
    assert!(cut_off.is_err(), "the append was to wait");
    // Simulates that this took half a minute, followed by several rounds of housekeeping.
    let age = "update claim_slots set taken_at = taken_at - interval '30 seconds'";
    sqlx::query(age).execute(&platform.app().owner).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(open_slot(&platform, call_id).await, Some(false));
    go.notify_one();
    until_confirmed(&platform, call_id).await;
    assert_eq!(claim(&platform, &campaign, Uuid::now_v7()).await.unwrap(), ClaimResult::Nothing(NothingToClaim::Concurrency));
    platform.stop().await;
}

/// A claim was interrupted before its append. If housekeeping did not know that its process is gone, the slot would stay for a minute.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_whose_claim_is_not_in_progress_is_released_soon() {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    for holder in [eventstore::database::process_name(), "a process that is gone"] {
        let campaign = one_line_campaign(&admin, 1).await;
        let tasks = admin.get(&format!("/campaigns/{}/tasks", campaign.1)).await.expect(200);
        let task: Uuid = tasks["items"][0]["id"].as_str().unwrap().parse().unwrap();
        let insert = "insert into claim_slots (call_id, company_id, campaign_id, task_id, taken_at, taken_by)
                      values (gen_random_uuid(), $1, $2, $3, clock_timestamp(), $4)";
        let taken = sqlx::query(insert).bind(campaign.0.company_id).bind(campaign.1).bind(task).bind(holder);
        taken.execute(&platform.app().owner).await.unwrap();
        assert_eq!(claimed_soon(&platform, &campaign).await, Some(task), "the slot of {holder}");
    }
    platform.stop().await;
}

/// The task of the first successful claim within 20 s.
async fn claimed_soon(platform: &Platform, campaign: &(CommandContext, Uuid)) -> Option<Uuid> {
    for _ in 0..400 {
        if let Some(claimed) = claim(platform, campaign, Uuid::now_v7()).await.unwrap().claimed() {
            return Some(claimed.task_id);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    None
}

/// A claim was interrupted between its slot and its append. Until it is repeated, its task is cancelled, or another attempt completes it:
/// the repeated claim is answered with the next task, at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeated_claim_whose_task_is_no_longer_open_gets_the_next_task() {
    let platform = api_and_projectors().await;
    let admin = platform.admin().await;
    for is_completed in [false, true] {
        let campaign = one_line_campaign(&admin, 2).await;
        let path = format!("/campaigns/{}/tasks", campaign.1);
        let tasks: Vec<Uuid> = admin.get(&path).await.expect(200)["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|task| task["id"].as_str().unwrap().parse().unwrap())
            .collect();
        let [gone, next] = tasks[..] else { panic!("{tasks:?}") };
        if is_completed {
            let (call, store) = (Uuid::now_v7(), &platform.app().store);
            let claim = TaskCommand::Claim { call_id: call, lease_sec: 60, now: now() };
            store.execute::<Task>(&campaign.0, gone, claim).await.unwrap();
            let complete = TaskCommand::Complete { call_id: call, outcome: Outcome::Success };
            store.execute::<Task>(&campaign.0, gone, complete).await.unwrap();
        } else {
            admin.act(&format!("/tasks/{gone}/cancel")).await.expect(200);
        }
        let call_id = Uuid::now_v7();
        let insert = "insert into claim_slots (call_id, company_id, campaign_id, task_id, taken_at, taken_by)
                      values ($1, $2, $3, $4, clock_timestamp(), 'a process that is gone')";
        let taken = sqlx::query(insert).bind(call_id).bind(campaign.0.company_id).bind(campaign.1).bind(gone);
        taken.execute(&platform.app().owner).await.unwrap();
        let claimed = keyed_claim(&platform, &campaign, call_id, true).await.unwrap().claimed();
        assert_eq!(claimed.map(|claimed| claimed.task_id), Some(next), "completed: {is_completed}");
    }
    platform.stop().await;
}

/// A repeated claim acquired a slot for another task before its first run was appended: that slot is released, and the attempt gets its own
/// slot.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_for_a_task_that_its_call_has_not_claimed_gives_way_to_the_attempts_own() {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    let campaign = one_line_campaign(&admin, 2).await;
    let call_id = Uuid::now_v7();
    let claimed = claim(&platform, &campaign, call_id).await.unwrap().claimed().unwrap();
    let other = "update claim_slots set confirmed_at = null, taken_at = taken_at - interval '2 minutes',
                        task_id = (select task_id from call_tasks where task_id <> $1)";
    sqlx::query(other).bind(claimed.task_id).execute(&platform.app().owner).await.unwrap();
    until_confirmed(&platform, call_id).await;
    let task = sqlx::query_scalar::<_, Uuid>("select task_id from claim_slots").fetch_one(&platform.app().owner).await.unwrap();
    assert_eq!(task, claimed.task_id);
    platform.stop().await;
}
