//! Statements that may read many rows, with the reasons.

/// A part of the statement, the role (any role if empty), the reason.
pub const ALLOWED: &[(&str, &str, &str)] = &[
    // Periodic deletion of old rows, selected only by their age.
    ("delete from refresh_tokens where expires_at < now()", "identity", PURGE),
    ("delete from auth_tickets where expires_at < now()", "identity", PURGE),
    ("delete from attempt_allowances where full_at < now()", "identity", PURGE),
    ("delete from known_networks where last_at <", "identity", PURGE),
    ("delete from audit_log where ctid = any", "identity", PURGE),
    ("delete from idempotency_keys where created_at <", "work", PURGE),
    ("delete from claim_slots where released_at <", "work", PURGE),
    // Slots of calls in progress have their own index; their number is at most the number of concurrent calls.
    ("update claim_slots s set confirmed_at = clock_timestamp() from call_tasks t", "work", OPEN_SLOTS),
    ("select s.company_id, s.task_id, s.call_id, s.taken_at from claim_slots s left join call_tasks t", "work", OPEN_SLOTS),
    ("select distinct taken_by from claim_slots where released_at is null", "work", OPEN_SLOTS),
    // Statements that operators of the installation request.
    ("count(*) as \"count!\" from events group by 1, 2", "", "replay-tool stats counts the whole log"),
    ("select (select count(*) from streams)", "log", "replay-tool stats counts all streams"),
    ("from user_credentials where operator_since is not null", "identity", "a list for the command line"),
    ("select 'user_credentials' as", "", "replay-tool compare reads all credentials"),
    ("from log_seal_keys order by named_at", "", "seal keys: one for each replacement"),
    // Statements at the start of the platform.
    ("delete from person_keys k using streams s", "log", "keys that a restored backup has of erased people, at the start"),
    // Registration.
    ("user_id <> $1 and pending_since is null limit 1", "identity", "the first user that is found ends it"),
    // Statements over one stream, or a few.
    ("as ended from events where stream = any($1)", "", "the streams of tasks, which are short"),
    ("select max(position) as position, array_agg(distinct event_type)", "", "one stream, which is folded at the same time"),
    (
        "from (select * from events where stream = any($1) offset 0) e",
        "",
        "calls, tasks and price lists as of a position, with what came since",
    ),
    // Statements over one company, page by page.
    ("select call_id from cost_calls where company_id = $1 and last_usage_at >= $2", "", "all calls of a company are looked at once"),
    ("select c.call_id from cost_calls c join calls k", "", "all calls of a company are looked at once, for costs as of a time"),
    (
        "and exists (select from unnest($2::text[]) start where starts_with(path, start))",
        "app",
        "two days' keys of a company, at an erasure",
    ),
    ("status in ('completed', 'failed')", "", "most of a campaign's tasks are counted"),
    ("select count(*) as \"n!\" from calls", "", "the calls of a company are counted, for clients of NEW-VOICE"),
    // Only `app` sends these, with a plan for the given filters.
    ("actor_id = $3) and ($4::uuid is null or request_id = $4)", "identity", OF_APP),
    ("from calls where company_id = $1 and ($2::uuid is null or campaign_id = $2)", "work", OF_APP),
    ("from call_tasks where company_id = $1 and campaign_id = $2 and ($3::text is null or status = $3)", "work", OF_APP),
];

const PURGE: &str = "deletes what is old";
const OPEN_SLOTS: &str = "as many slots as there are calls in progress";
const OF_APP: &str = "a right that another statement needs; it is not sent under this role";

/// Sources that send statements which are not checked at compile time: the number of such places, and the kind of statements.
pub const UNCHECKED: &[(&str, usize, &str)] = &[
    ("eventstore/src/append/columns.rs", 1, "copies events in"),
    ("eventstore/src/database/embedded.rs", 2, "create database; revoke rights of others on it"),
    ("eventstore/src/database/pool.rs", 3, "settings of a connection, begin and rollback, and begin for others"),
    ("eventstore/src/database/roles.rs", 7, "begin with a company; create and reset roles; revoke rights of others on the database"),
    ("projections/src/lib.rs", 1, "begin, and the locks of a snapshot"),
    ("projections/src/engine/folder.rs", 1, "begin"),
    ("projections/src/engine/rebuild/mod.rs", 3, "settings of a connection, and begin"),
    ("replay-tool/src/export/read_model.rs", 2, "exports read whole tables"),
];

/// Functions that are called while the platform works: the role, and a call.
pub const FUNCTIONS: &[(&str, &str, &str)] = &[
    ("stream_version_at", "log", "select stream_version_at('call-' || filling.u('call', '0'), 200000)"),
    (
        "take_claim_slot",
        "work",
        "select take_claim_slot(company_id, campaign_id, filling.u('task', 'new'), filling.u('call', 'new'), 1000000, 1000000, 'process') from campaigns limit 1",
    ),
    (
        "append_events",
        "log",
        "select append_events(array['call-' || filling.u('call', '0'), 'call-' || filling.u('call', 'new')],
                              array[filling.u('company', '0'), filling.u('company', '299')], array[-1, -1], array[1, 2], array[1, 1],
                              array[filling.u('event', 'new'), filling.u('event', 'other')], array['TurnRecorded', 'TurnRecorded'], array[1, 1]::smallint[],
                              array['{}', '{}'], array['{}', '{}'], array[now(), now()], decode(repeat('00', 64), 'hex'), filling.u('event', 'new'),
                              true, true)",
    ),
];

/// Functions that read no large table themselves, or whose purpose is to read it completely.
pub const OTHER_FUNCTIONS: &[&str] = &[
    // They create, attach and swap tables, and grant rights to them.
    "attach_newest_detached_partition",
    "detach_oldest_partition",
    "drop_read_model",
    "ensure_event_partitions",
    "log_partition",
    "protect_table",
    "protect_tables",
    "rebuild_create",
    "rebuild_discard",
    "rebuild_keep_vacuum_out",
    "rebuild_redirect",
    "rebuild_rename",
    "rebuild_restore",
    "rebuild_swap",
    "rebuild_undirect",
    // It compares every row of two tables.
    "rebuild_differences",
    // They raise errors.
    "refuse_change",
    "require_as_predicted",
];
