//! Single appends: repeated commands, multi-stream appends, and refusals.

use chrono::TimeDelta;
use domain::{
    call::{Call, CallCommand, Turn},
    campaign::{Campaign, CampaignCommand, CampaignEvent, CampaignRefusal, CampaignSettings},
    company::{Company, CompanyCommand},
    reserved_name::{NameCommand, ReservedName},
};
use eventstore::{
    CommandContext, CommandIdentity, Conflict, EventStore, ExecuteError, ExpectedVersion, StoreError, StoredEvent, StreamName, now, verify,
};
use support::new_database;
use uuid::Uuid;

use super::{
    PERSON, context,
    load::{COMPANY, turn},
    open, profile,
};

fn keyed() -> CommandContext {
    CommandContext { identity: Some(CommandIdentity { id: Uuid::now_v7(), begun_at: now(), comes_again: false }), ..context(COMPANY) }
}

pub async fn push(
    store: &EventStore,
    context: &CommandContext,
    stream: u128,
    expected: ExpectedVersion,
    tags: &[&str],
) -> Result<i64, StoreError> {
    let mut unit = store.unit(context);
    let turns: Vec<_> = tags.iter().map(|tag| turn(tag)).collect();
    unit.push::<Call>(Uuid::from_u128(stream), PERSON, expected, &turns).await?;
    unit.commit().await
}

/// The client did not receive the answer and repeats the command, perhaps at another process.
#[tokio::test]
async fn a_command_that_comes_again_is_answered_as_the_first_time() {
    let url = new_database().await;
    let (_database, first) = open(&url).await;
    let (_other, second) = open(&url).await;
    let command = keyed();
    let position = push(&first, &command, 1, ExpectedVersion::NoStream, &["a", "b"]).await.unwrap();
    push(&first, &context(COMPANY), 1, ExpectedVersion::Exact(2), &["later"]).await.unwrap();
    for store in [&first, &second] {
        // The content of the repeated command may differ, for example in a time; the recorded content is decisive.
        assert_eq!(push(store, &command, 1, ExpectedVersion::NoStream, &["a", "other"]).await.unwrap(), position);
    }
    // Another command that expects the same version conflicts.
    let lost = push(&second, &keyed(), 1, ExpectedVersion::NoStream, &["a", "b"]).await.unwrap_err();
    assert!(matches!(lost, StoreError::Conflict(Conflict { expected: 0, actual: 3, .. })), "{lost}");
    // A command with only a part of the events is a different command.
    let lost = push(&second, &command, 1, ExpectedVersion::NoStream, &["a", "b", "c"]).await.unwrap_err();
    assert!(matches!(lost, StoreError::DuplicateEventId), "{lost}");
    assert_eq!(first.last_position().await.unwrap(), 3);
}

#[tokio::test]
async fn a_decision_that_comes_again_gives_what_was_recorded() {
    let (_database, store) = open(&new_database().await).await;
    let command = keyed();
    let id = Uuid::now_v7();
    let register = |name: &str| CompanyCommand::Register(profile(name));
    let done = store.execute::<Company>(&command, id, register("first")).await.unwrap();
    // A process without any cached state decides on an empty stream.
    let again = {
        let mut unit = store.unit(&command);
        unit.push::<Company>(id, PERSON, ExpectedVersion::NoStream, &done.events).await.unwrap();
        unit.commit().await.unwrap()
    };
    assert_eq!(again, done.position);
    let loaded = store.load_fresh::<Company>(COMPANY, id).await.unwrap();
    assert_eq!((loaded.version, loaded.position), (1, done.position));
}

/// This holds even if the stream has more events since, and the command would have a second effect.
#[tokio::test]
async fn a_command_that_comes_again_late_has_no_second_effect() {
    let (_database, store) = open(&new_database().await).await;
    let id = Uuid::now_v7();
    let (reserve, release) = (NameCommand::Reserve { holder_id: id }, NameCommand::Release { holder_id: id });
    let mut command = keyed();
    command.metadata.idempotency_key = Some("once".to_owned());
    let done = store.execute::<ReservedName>(&command, id, reserve.clone()).await.unwrap();
    store.execute::<ReservedName>(&context(COMPANY), id, release).await.unwrap();
    let again = CommandContext { identity: command.identity.map(|identity| CommandIdentity { comes_again: true, ..identity }), ..command };
    let answer = store.execute::<ReservedName>(&again, id, reserve).await.unwrap();
    assert_eq!((answer.position, answer.version, answer.events.len()), (done.position, 2, 0));
    assert_eq!(answer.state.holder_id, None);
    // The part of the command for this stream that was not reached before is done.
    store.execute::<ReservedName>(&context(COMPANY), id, NameCommand::Reserve { holder_id: id }).await.unwrap();
    let rest = store.execute::<ReservedName>(&again, id, NameCommand::Release { holder_id: id }).await.unwrap();
    assert_eq!((rest.version, rest.events.len()), (4, 1));
}

/// Many tasks in two processes read a number in a campaign and write the next one. No number is lost: the decisions of a unit depend on the
/// versions that it has loaded.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_is_decided_again_when_another_command_was_first() {
    const WRITERS: usize = 8;
    const WRITES: usize = 20;
    let url = new_database().await;
    let ((_first, first), (_second, second)) = (open(&url).await, open(&url).await);
    let id = Uuid::now_v7();
    let settings = CampaignSettings { description: Some("0".to_owned()), ..CampaignSettings::new("c".into(), Uuid::nil()) };
    first.execute::<Campaign>(&context(COMPANY), id, CampaignCommand::Create { settings: Box::new(settings) }).await.unwrap();
    let count = async |store: &EventStore| -> Result<i64, ExecuteError<CampaignRefusal>> {
        let context = context(COMPANY);
        let counted = store.transact(&context, |mut unit| async move {
            let loaded = unit.load::<Campaign>(id).await?;
            let mut settings = loaded.state.present().unwrap().settings.clone();
            let number: usize = settings.description.as_deref().unwrap().parse().unwrap();
            settings.description = Some((number + 1).to_string());
            unit.decide::<Campaign>(id, CampaignCommand::Update { settings: Box::new(settings) }).await?;
            Ok::<_, ExecuteError<CampaignRefusal>>((unit, ()))
        });
        Ok(counted.await?.1)
    };
    let writers = (0..WRITERS).map(|n| {
        let store = if n % 2 == 0 { &first } else { &second };
        async move {
            for _ in 0..WRITES {
                count(store).await.unwrap();
            }
        }
    });
    futures::future::join_all(writers).await;
    let settings = first.load_fresh::<Campaign>(COMPANY, id).await.unwrap().state.present().unwrap().settings.clone();
    assert_eq!(settings.description, Some((WRITERS * WRITES).to_string()));
    // If the caller requires a version, the command is not retried with another one.
    let stale = context(COMPANY);
    let refused = first.transact(&stale, |mut unit| async move {
        unit.require::<Campaign>(id, Some(1)).await?;
        Ok::<_, StoreError>((unit, ()))
    });
    assert!(matches!(refused.await, Err(StoreError::PreconditionFailed { expected: 1, .. })));
}

/// The clock of a process may be ahead of the database's.
#[tokio::test]
async fn what_the_platform_makes_does_not_happen_after_it_is_recorded() {
    let (_database, store) = open(&new_database().await).await;
    let id = Uuid::now_v7();
    let settings = Box::new(CampaignSettings::new("c".into(), Uuid::nil()));
    store.execute::<Campaign>(&context(COMPANY), id, CampaignCommand::Create { settings }).await.unwrap();
    for n in 0..200 {
        let ahead = CommandContext { now: now() + TimeDelta::seconds(2 * (n % 2)), ..context(COMPANY) };
        let add = CampaignCommand::AddTasks { import_id: Uuid::now_v7(), count: 1 };
        store.execute::<Campaign>(&ahead, id, add).await.unwrap();
    }
    let events = store.read_stream(&StreamName::of::<Campaign>(id), None).await.unwrap();
    let late: Vec<_> = events.iter().skip(1).filter(|event| event.occurred_at > event.recorded_at).map(|event| event.version).collect();
    assert!(events.len() == 201 && late.is_empty(), "{late:?} of {}", events.len());
    let recent = |event: &StoredEvent| event.recorded_at - event.occurred_at < TimeDelta::seconds(10);
    assert!(events.iter().all(recent));
}

/// One process pauses and resumes a campaign, many times at once, so that commands are decided ahead of the log; another process adds tasks
/// to it meanwhile. Every event must follow from the events before it: a decision that is based on an append that did not reach the log
/// must not reach it either, even if its version matches.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_decision_rests_on_what_did_not_happen() {
    let url = new_database().await;
    let (_first, first) = open(&url).await;
    let (_second, second) = open(&url).await;
    let id = Uuid::now_v7();
    let add = |n: u64| CampaignCommand::AddTasks { import_id: Uuid::now_v7(), count: n + 1 };
    let settings = Box::new(CampaignSettings::new("c".into(), Uuid::nil()));
    for command in [CampaignCommand::Create { settings }, add(0), CampaignCommand::Start { now: now(), resumes: false }] {
        first.execute::<Campaign>(&context(COMPANY), id, command).await.unwrap();
    }
    let tasks = (0..24_u64).map(|n| {
        let (store, context) = (if n % 3 == 2 { second.clone() } else { first.clone() }, context(COMPANY));
        tokio::spawn(async move {
            for _ in 0..150 {
                let command = match n % 3 {
                    0 => CampaignCommand::Pause,
                    1 => CampaignCommand::Resume { now: now() },
                    _ => add(n),
                };
                store.execute::<Campaign>(&context, id, command).await.unwrap();
            }
        })
    });
    for task in futures::future::join_all(tasks).await {
        task.unwrap();
    }
    let events = first.read_stream(&StreamName::of::<Campaign>(id), None).await.unwrap();
    let mut running = true;
    let mut changes = 0;
    for event in &events {
        match event.decode::<CampaignEvent>().unwrap() {
            CampaignEvent::CampaignPaused {} => {
                assert!(std::mem::replace(&mut running, false), "version {} pauses what is paused", event.version)
            }
            CampaignEvent::CampaignResumed {} => {
                assert!(!std::mem::replace(&mut running, true), "version {} resumes what runs", event.version)
            }
            _ => continue,
        }
        changes += 1;
    }
    assert!(changes > 30, "only {changes} changes");
    let fresh = second.load_fresh::<Campaign>(COMPANY, id).await.unwrap();
    assert_eq!(*first.load_fresh::<Campaign>(COMPANY, id).await.unwrap().state, *fresh.state);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_on_one_stream_are_decided_one_after_the_other() {
    let (database, store) = open(&new_database().await).await;
    let context = context(COMPANY);
    let id = Uuid::now_v7();
    store.execute::<Company>(&context, id, CompanyCommand::Register(profile("begin"))).await.unwrap();
    let updates = (0..300).map(|n| {
        let (store, context) = (store.clone(), context.clone());
        tokio::spawn(
            async move { store.execute::<Company>(&context, id, CompanyCommand::Update(profile(&format!("name {n}")))).await.unwrap() },
        )
    });
    let mut versions: Vec<i64> = futures::future::join_all(updates).await.into_iter().map(|done| done.unwrap().version).collect();
    versions.sort_unstable();
    assert!(versions.iter().copied().eq(2..=301), "each update has its own version");
    let recorded: i64 = sqlx::query_scalar("select count(distinct recorded_at) from events").fetch_one(&database.pool).await.unwrap();
    assert!(recorded < 301, "commands on one stream were written together");
    assert_eq!(verify::verify(&database.pool, verify::Scope::default(), |_| ()).await.unwrap().fault, None);
}

/// A large append uses COPY; it has the same guarantees and the same answers.
#[tokio::test]
async fn a_large_append_happens_wholly_or_not_at_all() {
    let url = new_database().await;
    let (database, store) = open(&url).await;
    let (_other, stranger) = open(&url).await;
    let tags: Vec<String> = (0..1_500).map(|n| n.to_string()).collect();
    let tags: Vec<&str> = tags.iter().map(String::as_str).collect();
    let command = keyed();
    assert_eq!(push(&store, &command, 1, ExpectedVersion::NoStream, &tags).await.unwrap(), 1_500);
    assert_eq!(push(&stranger, &command, 1, ExpectedVersion::NoStream, &tags).await.unwrap(), 1_500, "it comes again");
    let lost = push(&stranger, &keyed(), 1, ExpectedVersion::Exact(7), &tags).await.unwrap_err();
    assert!(matches!(lost, StoreError::Conflict(Conflict { expected: 7, actual: 1_500, .. })), "{lost}");
    assert_eq!(push(&stranger, &keyed(), 1, ExpectedVersion::Any, &tags).await.unwrap(), 3_000);
    // Two processes append alternately, so that neither can predict its next position.
    for round in 0..3 {
        assert_eq!(
            push(&store, &keyed(), 2 + round, ExpectedVersion::NoStream, &tags).await.unwrap(),
            4_500 + i64::try_from(round).unwrap() * 3_000
        );
        assert_eq!(
            push(&stranger, &keyed(), 20 + round, ExpectedVersion::NoStream, &tags).await.unwrap(),
            6_000 + i64::try_from(round).unwrap() * 3_000
        );
    }
    let verdict = verify::verify(&database.pool, verify::Scope::default(), |_| ()).await.unwrap();
    assert_eq!((verdict.fault, verdict.events), (None, 12_000));
}

#[tokio::test]
async fn what_cannot_be_read_back_is_never_stored() {
    let (_database, store) = open(&new_database().await).await;
    let context = context(Uuid::now_v7());
    let refused = store.execute::<Company>(&context, Uuid::now_v7(), CompanyCommand::Register(profile("nul \0 inside"))).await;
    assert!(matches!(refused, Err(ExecuteError::Store(StoreError::NotStorable(_)))));
    let turn = Turn { user_text: Some("x".repeat(2 << 20).into()), ..Turn::default() };
    let refused = store.execute::<Call>(&context, Uuid::now_v7(), CallCommand::RecordTurns { turns: vec![turn], now: now() }).await;
    assert!(refused.is_err());
    let huge = push(&store, &context, 1, ExpectedVersion::NoStream, &[&"x".repeat(2 << 20)]).await.unwrap_err();
    assert!(matches!(huge, StoreError::NotStorable(_)), "{huge}");
    assert_eq!(store.last_position().await.unwrap(), 0);
}

/// Appends beyond the capacity of the queue are refused at once instead of waiting; accepted ones are written.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_refuses_instead_of_growing() {
    let (database, store) = open(&new_database().await).await;
    // Another transaction holds the lock of the log.
    let mut held = database.pool.begin().await.unwrap();
    sqlx::query("select pg_advisory_xact_lock(hashtextextended(current_schema() || '.log_head', 0))").execute(&mut *held).await.unwrap();
    let appends: Vec<_> = (0..6_000_u128)
        .map(|n| {
            let store = store.clone();
            tokio::spawn(async move { push(&store, &context(COMPANY), n + 1, ExpectedVersion::NoStream, &["x"]).await })
        })
        .collect();
    let mut refused = 0;
    for _ in 0..600 {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        refused = appends.iter().filter(|append| append.is_finished()).count();
        if refused >= 1_000 {
            break;
        }
    }
    assert!(refused >= 1_000, "only {refused} of 6,000 were refused");
    held.rollback().await.unwrap();
    let mut written = 0;
    for append in appends {
        match append.await.unwrap() {
            Ok(_) => written += 1,
            Err(StoreError::Overloaded) => {}
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(store.last_position().await.unwrap(), written);
    assert!(written > 0);
}
