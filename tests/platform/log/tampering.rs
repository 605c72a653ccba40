//! Tampering by a superuser who disables the guards.

use std::path::Path;

use domain::{
    call::Call,
    company::{Company, CompanyCommand},
};
use eventstore::{
    Database, EventStore, ExpectedVersion, Pool,
    seal::{self, KeyFingerprint, Seal, Sealer, Succession},
    verify::{self, Fault, Scope, Verdict},
};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use support::{new_database, seed};
use uuid::Uuid;

use super::{
    PERSON, context,
    load::{COMPANY, turn},
    open, profile,
};

async fn verify(pool: &Pool) -> Verdict {
    verify::verify(pool, Scope::default(), |_| ()).await.unwrap()
}

/// Six streams of six events each, interleaved.
async fn fill(store: &EventStore) {
    let context = context(COMPANY);
    for version in 0..6 {
        for stream in 1..=6 {
            let mut unit = store.unit(&context);
            let expected = if version == 0 { ExpectedVersion::NoStream } else { ExpectedVersion::Exact(version) };
            unit.push::<Call>(Uuid::from_u128(stream), PERSON, expected, &[turn(&format!("{stream} {version}"))]).await.unwrap();
            unit.commit().await.unwrap();
        }
    }
}

async fn tamper(database: &Database, sql: &str) {
    let sql = format!("set session_replication_role = replica; {sql}; set session_replication_role = origin");
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&database.pool).await.unwrap();
}

#[tokio::test]
async fn every_kind_of_tampering_is_found_where_it_was_done() {
    let kinds = [
        ("payload", "update events set payload = jsonb_set(payload, '{llm_model}', '\"forged\"') where position = 20", 20),
        ("metadata", "update events set metadata = jsonb_set(metadata, '{actor,name}', '\"forged\"') where position = 20", 20),
        ("type", "update events set event_type = 'CallEnded' where position = 20", 20),
        ("time", "update events set occurred_at = occurred_at - interval '1 day' where position = 20", 20),
        ("time of recording", "update events set recorded_at = recorded_at - interval '1 day' where position = 20", 20),
        ("company", "update events set company_id = gen_random_uuid() where position = 20", 20),
        ("event id", "update events set event_id = gen_random_uuid() where position = 20", 20),
        ("deletion in the middle", "delete from events where position = 20", 20),
        (
            "deletion, the gap closed",
            "delete from events where position = 36; update log_head set position = 35, hash = (select hash from events where position = 35);
             delete from events where position = 20; update events set position = position - 1 where position > 20; update log_head set position = 34",
            20,
        ),
        (
            "insertion",
            "update events set position = position + 1000 where position >= 20; update events set position = position - 999 where position > 1000;
             insert into events select 20, stream, version + 50, gen_random_uuid(), event_type, schema_version, company_id, payload, metadata, occurred_at, recorded_at, hash
               from events where position = 19; update log_head set position = 37",
            20,
        ),
        (
            "swap",
            "update events set position = 100020 where position = 20; update events set position = 20 where position = 26; update events set position = 26 where position = 100020",
            20,
        ),
        ("truncated tail", "delete from events where position > 30", 31),
        (
            "truncated tail, the head moved back",
            "delete from events where position > 30; update log_head set position = 30, hash = (select hash from events where position = 30);
             update streams s set version = (select max(version) from events e where e.stream = s.stream)",
            31,
        ),
        ("the whole log", "delete from events; delete from streams; update log_head set position = 0, hash = decode(repeat('00', 32), 'hex')", 1),
        ("a stream's version", "update streams set version = 7 where stream = 'call-00000000-0000-0000-0000-000000000003'", 37),
        ("a stream forgotten", "delete from streams where stream = 'call-00000000-0000-0000-0000-000000000003'", 37),
        ("the head", "update log_head set position = 40", 37),
    ];
    let dir = tempfile::tempdir().unwrap();
    let sealer = Sealer::open(&dir.path().join("key.pem")).unwrap();
    let url = new_database().await;
    let (database, store) = open(&url).await;
    fill(&store).await;
    sealer.seal(&database.pool).await.unwrap().unwrap();
    let whole = verify(&database.pool).await;
    assert_eq!((whole.fault, whole.events, whole.sealed_until), (None, 36, Some(36)), "an untouched log raises no alarm");
    for refused in
        ["update events set event_type = 'x'", "delete from events", "truncate events", "truncate events_from_1", "delete from log_seals"]
    {
        let error = sqlx::query(refused).execute(&database.pool).await.unwrap_err();
        assert!(error.to_string().contains("append-only"), "{refused}: {error}");
    }
    database.pool.close().await;
    for (name, kind, first_wrong) in kinds {
        let copy = support::copy_database(&url).await;
        let (database, _store) = open(&copy).await;
        assert_eq!(verify(&database.pool).await.fault, None);
        tamper(&database, kind).await;
        let verdict = verify(&database.pool).await;
        let fault = verdict.fault.unwrap_or_else(|| panic!("not found: {name}"));
        assert_eq!(verdict.last_position + 1, first_wrong, "{name}: {fault}");
        database.pool.close().await;
    }
}

/// A forger with all rights recomputes the chain from the forged event on; an earlier seal reveals it, even if the seals in the database
/// are forged as well.
#[tokio::test]
async fn a_chain_that_was_made_anew_is_found_by_a_seal_kept_elsewhere() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key.pem");
    let sealer = Sealer::open(&path).unwrap();
    let (database, store) = open(&new_database().await).await;
    fill(&store).await;
    let kept = sealer.seal(&database.pool).await.unwrap().unwrap();
    let rechain = "delete from log_seals; update events set payload = jsonb_set(payload, '{llm_model}', '\"forged\"') where position = 20; call rechain()";
    sqlx::raw_sql(RECHAIN).execute(&database.pool).await.unwrap();
    rechain_from_digests(&database.pool).await;
    tamper(&database, rechain).await;
    assert_eq!(verify(&database.pool).await.fault, None, "the chain alone cannot tell");
    let scope = |seals: Vec<Seal>, keys: Vec<KeyFingerprint>| Scope { seals, keys, ..Scope::default() };
    let found = verify::verify(&database.pool, scope(vec![kept.clone()], Vec::new()), |_| ()).await.unwrap().fault;
    assert!(matches!(found, Some(Fault::SealDiffers { position: 36, .. })), "{found:?}");
    // A seal with the forger's own key is rejected if the right key is given.
    let forger = Sealer::open(&dir.path().join("forger.pem")).unwrap();
    forger.seal(&database.pool).await.unwrap().unwrap();
    assert_eq!(verify(&database.pool).await.fault, None);
    let known = KeyFingerprint::read(Path::new(&path.with_extension("pub"))).unwrap();
    assert_eq!(known, sealer.fingerprint());
    let found = verify::verify(&database.pool, scope(Vec::new(), vec![known]), |_| ()).await.unwrap().fault;
    assert!(matches!(found, Some(Fault::SealForged { .. })), "{found:?}");
    let broken = Seal { position: 30, ..kept };
    let found = verify::verify(&database.pool, scope(vec![broken], Vec::new()), |_| ()).await.unwrap().fault;
    assert!(matches!(found, Some(Fault::SealForged { position: 30, .. })), "{found:?}");
}

/// The seal key is replaced: one of the public keys is enough to accept the seals of all of them.
#[tokio::test]
async fn one_public_key_is_enough_for_the_seals_of_its_whole_chain() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key.pem");
    let (database, store) = open(&new_database().await).await;
    let sealer = Sealer::open(&path).unwrap();
    let first = sealer.fingerprint();
    fill(&store).await;
    sealer.seal(&database.pool).await.unwrap().unwrap();
    for _ in 0..2 {
        // A process that ran `rotate` before may have died after it had created the new key.
        Sealer::open(&path.with_extension("next")).unwrap();
        let [old, new] = seal::rotate(&path, &database.pool).await.unwrap();
        assert!(old != new && KeyFingerprint::read(&path.with_extension("pub")).unwrap() == new);
        store.execute::<Company>(&context(Uuid::now_v7()), Uuid::now_v7(), CompanyCommand::Register(profile("x"))).await.unwrap();
        assert_eq!(sealer.seal(&database.pool).await.unwrap().unwrap().key(), new, "the sealer reads its key again");
    }
    let with_key = |key| verify::verify(&database.pool, Scope { keys: vec![key], ..Scope::default() }, |_| ());
    let verdict = with_key(first).await.unwrap();
    assert_eq!((verdict.fault, verdict.seals), (None, 3));
    let last = KeyFingerprint::read(&path.with_extension("pub")).unwrap();
    assert_eq!(with_key(last).await.unwrap().fault, None, "the last key acknowledges those before it");
    // The naming is in the seals that are stored elsewhere, if someone removes it here.
    let successions = Succession::all(&database.pool).await.unwrap();
    tamper(&database, "delete from log_seal_keys").await;
    assert!(matches!(with_key(first).await.unwrap().fault, Some(Fault::SealForged { .. })));
    let scope = Scope { keys: vec![first], successions, ..Scope::default() };
    assert_eq!(verify::verify(&database.pool, scope, |_| ()).await.unwrap().fault, None);
}

/// Recomputes the digests of the forged events; the database then recomputes the links.
async fn rechain_from_digests(pool: &Pool) {
    use eventstore::canonical::{Content, to_text};
    use sqlx::Row as _;

    let rows = sqlx::query(
        "select position, company_id, event_id, event_type, metadata, occurred_at, payload, schema_version, stream from events order by position",
    );
    for row in rows.fetch_all(pool).await.unwrap() {
        let position: i64 = row.get("position");
        let mut payload: serde_json::Value = row.get("payload");
        if position == 20 {
            payload["llm_model"] = "forged".into();
        }
        let (stream, event_type): (String, String) = (row.get("stream"), row.get("event_type"));
        let digest = Content {
            company_id: row.get("company_id"),
            event_id: row.get("event_id"),
            event_type: &event_type,
            metadata: &to_text(&row.get("metadata")).unwrap(),
            occurred_at: row.get("occurred_at"),
            payload: &to_text(&payload).unwrap(),
            schema_version: row.get("schema_version"),
            stream: &stream,
        }
        .digest();
        sqlx::query("insert into forged values ($1, $2)").bind(position).bind(&digest[..]).execute(pool).await.unwrap();
    }
}

const RECHAIN: &str = "
    create table forged (position bigint primary key, digest bytea);
    create procedure rechain() language plpgsql as $$
    declare v_hash bytea := decode(repeat('00', 32), 'hex'); e record;
    begin
        for e in select ev.*, f.digest from events ev join forged f using (position) order by position loop
            v_hash := sha256(v_hash || e.digest || int8send(e.position) || int8send(e.version) || int8send((extract(epoch from e.recorded_at) * 1000000)::bigint));
            update events set hash = v_hash where position = e.position;
        end loop;
        update log_head set hash = v_hash;
    end $$";

#[tokio::test]
async fn a_hundred_untouched_logs_raise_no_alarm() {
    let (database, store) = open(&new_database().await).await;
    let dir = tempfile::tempdir().unwrap();
    let sealer = Sealer::open(&dir.path().join("key.pem")).unwrap();
    let mut rng = StdRng::seed_from_u64(seed());
    for log in 0..100 {
        tamper(
            &database,
            "truncate events, streams, log_seals; update log_head set position = 0, hash = decode(repeat('00', 32), 'hex'), recorded_at = '-infinity',
             partition_end = 0, closed_event_id = '00000000-0000-0000-0000-000000000000'",
        )
        .await;
        let context = context(COMPANY);
        let mut events = 0;
        for _ in 0..rng.random_range(0..12) {
            let mut unit = store.unit(&context);
            for _ in 0..rng.random_range(1..4) {
                let turns: Vec<_> = (0..rng.random_range(1..5)).map(|_| turn(&random_text(&mut rng))).collect();
                events += turns.len() as u64;
                unit.push::<Call>(Uuid::new_v4(), PERSON, ExpectedVersion::NoStream, &turns).await.unwrap();
            }
            unit.commit().await.unwrap();
            if rng.random_ratio(1, 4) {
                sealer.seal(&database.pool).await.unwrap();
            }
        }
        let verdict = verify(&database.pool).await;
        assert_eq!((verdict.fault, verdict.events), (None, events), "log {log}");
    }
}

fn random_text(rng: &mut StdRng) -> String {
    (0..rng.random_range(0..40)).map(|_| rng.random::<char>()).filter(|c| *c != '\0').collect()
}
