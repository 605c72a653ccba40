-- The log. Only append_events inserts rows; the database itself refuses every other change.
create table events (
    -- Without gaps, in commit order, from 1.
    position       bigint      not null,
    -- <category>-<uuid>
    stream         text        collate "C" not null,
    -- Place in the stream, from 1.
    version        bigint      not null,
    event_id       uuid        not null,
    -- In the past tense, for example TurnRecorded.
    event_type     text        collate "C" not null,
    -- Shape of the payload; older shapes are converted when they are read.
    schema_version smallint    not null,
    company_id     uuid        not null,
    -- Facts without floating-point numbers: integers with their unit in the name, decimals as strings.
    payload        jsonb       not null,
    -- {actor: {kind, id, name}, correlation_id, causation_id, idempotency_key}
    metadata       jsonb       not null,
    -- When it happened, from its source.
    occurred_at    timestamptz not null,
    -- When it was appended, by the database's clock; never decreases.
    recorded_at    timestamptz not null,
    -- sha256(hash of the previous event || digest of this event's content || position || version || recorded_at); see ARCHITECTURE.md.
    hash           bytea       not null
) partition by range (position);
alter table events add constraint events_pkey primary key (position);
create index events_company_type_position on events (company_id, event_type, position nulls first);
create trigger events_append_only before delete or update on events for each row execute function refuse_change();
create trigger events_no_truncate before truncate on events for each statement execute function refuse_change();

insert into table_access values
    ('events', 'app', 'select'),
    ('events', 'log', 'select, insert'),
    ('events', 'work', 'select');
select protect_table('events');
