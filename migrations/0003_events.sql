-- The log. Rows are only ever inserted, by append_events; the database itself refuses everything else.
create table events (
    -- Gapless, in commit order, from 1.
    position       bigint      not null,
    -- <category>-<uuid>
    stream         text collate "C" not null,
    -- Place in the stream, from 1.
    version        bigint      not null,
    event_id       uuid        not null,
    -- Past tense, e.g. TurnRecorded.
    event_type     text collate "C" not null,
    -- Shape of the payload; old shapes are brought up to date on read.
    schema_version smallint    not null,
    company_id     uuid        not null,
    -- Facts without floating-point numbers: integers with their unit in the name, decimals as strings.
    payload        jsonb       not null,
    -- {actor: {kind, id, name}, correlation_id, causation_id, idempotency_key}
    metadata       jsonb       not null,
    -- When it happened, from its source.
    occurred_at    timestamptz not null,
    -- When it was appended, by the database's clock; never goes back.
    recorded_at    timestamptz not null,
    -- sha256(hash of the event before || digest of this event's content || position || version || recorded_at); see ARCHITECTURE.md.
    hash           bytea       not null,
    primary key (position)
) partition by range (position);

-- A company's events in log order.
create index events_company_position on events (company_id, position);

create function refuse_change() returns trigger language plpgsql as $$
begin
    raise exception 'the log is append-only: % on % is refused', tg_op, tg_table_name using errcode = 'restrict_violation';
end $$;

create trigger events_append_only before update or delete on events for each row execute function refuse_change();
create trigger events_no_truncate before truncate on events for each statement execute function refuse_change();

-- Makes partitions of p_size positions each until p_ahead positions beyond the head have a place. Returns how many it made.
-- Attaching a finished table takes a lock that neither readers nor appends wait for.
create function ensure_event_partitions(p_size bigint, p_ahead bigint) returns integer language plpgsql as $$
declare
    v_from bigint;
    v_name text;
    v_made integer := 0;
begin
    perform pg_advisory_xact_lock(hashtextextended(current_schema() || '.event_partitions', 0));
    loop
        select coalesce(max((regexp_match(pg_get_expr(c.relpartbound, c.oid), $r$TO \('?(\d+)'?\)$r$))[1]::bigint), 1)
          into v_from
          from pg_inherits i join pg_class c on c.oid = i.inhrelid
         where i.inhparent = 'events'::regclass;
        exit when v_from > (select position from log_head) + p_ahead;
        v_name := 'events_from_' || v_from;
        execute format('create table %I (like events including defaults including constraints)', v_name);
        execute format('create unique index %I on %I (stream, version)', v_name || '_stream', v_name);
        execute format('create unique index %I on %I (event_id)', v_name || '_event_id', v_name);
        execute format('alter table events attach partition %I for values from (%s) to (%s)', v_name, v_from, v_from + p_size);
        execute format('create trigger events_no_truncate before truncate on %I for each statement execute function refuse_change()', v_name);
        v_made := v_made + 1;
    end loop;
    return v_made;
end $$;
