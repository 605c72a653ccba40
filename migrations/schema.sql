-- The result of all migrations, as pg_dump shows it; the test in tests/platform/schema.rs writes and compares it.

CREATE SCHEMA newvoice;

CREATE FUNCTION newvoice.append_events(p_streams text[], p_companies uuid[], p_expected bigint[], p_slots integer[], p_offsets integer[], p_event_ids uuid[], p_types text[], p_schemas smallint[], p_payloads text[], p_metadata text[], p_occurred timestamp with time zone[], p_digests bytea, p_least_event_id uuid, p_again boolean, p_insert boolean, OUT o_position bigint, OUT o_recorded_at timestamp with time zone, OUT o_found bigint[], OUT o_owners uuid[], OUT o_hashes bytea[], OUT o_last_hash bytea, OUT o_clock timestamp with time zone, OUT o_stored jsonb) RETURNS record
    LANGUAGE plpgsql
    AS $$
declare
    v_events   integer := cardinality(p_event_ids);
    v_lock     text;
    v_hash     bytea;
    v_hashes   bytea[];
    v_at_bytes bytea;
    v_end      bigint;
    v_closed   uuid;
    -- The places of the streams' rows: no other process moves them.
    v_rows     tid[];
    v_clean    boolean;
    v_new      boolean;
    v_old      boolean;
begin
    -- Until the commit, no other process appends.
    v_lock := pg_advisory_xact_lock(hashtextextended(current_schema() || '.log_head', 0));
    select h.position, h.hash, greatest(clock_timestamp(), h.recorded_at), h.partition_end, h.closed_event_id
      into o_position, v_hash, o_recorded_at, v_end, v_closed from log_head h;

    select array_agg(q.version), array_agg(q.company_id), array_agg(q.row), bool_and(q.clean), bool_or(q.version = 0), bool_or(q.version > 0)
      into o_found, o_owners, v_rows, v_clean, v_new, v_old
      from (select coalesce(s.version, 0) as version, s.company_id, s.ctid as row,
                   n.expected in (-1, coalesce(s.version, 0)) and coalesce(s.company_id = n.company_id, true) as clean
              from unnest(p_streams, p_companies, p_expected) with ordinality n(stream, company_id, expected, slot)
              left join streams s on s.stream = n.stream
             order by n.slot) q;

    if o_position >= v_end then
        select p.o_end, greatest(v_closed, p.o_closed_event_id) into v_end, v_closed from log_partition(o_position) p;
    end if;
    if not v_clean or p_again or p_least_event_id <= v_closed or o_position + v_events >= v_end then
        select jsonb_agg(jsonb_build_object('event_id', e.event_id, 'stream', e.stream, 'position', e.position,
                                            'recorded_at_us', (extract(epoch from e.recorded_at) * 1000000)::bigint))
          into o_stored from events e where e.event_id = any (p_event_ids);
        if not v_clean or o_stored is not null then
            o_position := null;
            return;
        end if;
    end if;

    v_at_bytes := int8send((extract(epoch from o_recorded_at) * 1000000)::bigint);
    for i in 1 .. v_events loop
        v_hash := sha256(v_hash || substring(p_digests from i * 32 - 31 for 32) || int8send(o_position + i)
                         || int8send(o_found[p_slots[i]] + p_offsets[i]) || v_at_bytes);
        v_hashes := array_append(v_hashes, v_hash);
    end loop;
    if v_new then
        insert into streams (stream, company_id, version)
        select p_streams[n.slot], p_companies[n.slot], n.version
          from (select slot, max(o) as version from unnest(p_slots, p_offsets) e(slot, o) group by slot) n where o_found[n.slot] = 0;
    end if;
    if v_old then
        update streams s set version = s.version + n.count
          from (select v_rows[slot] as row, max(o) as count from unnest(p_slots, p_offsets) e(slot, o) where o_found[slot] > 0 group by slot) n
         where s.ctid = n.row;
    end if;
    update log_head set position = o_position + v_events, hash = v_hash, recorded_at = o_recorded_at, partition_end = v_end, closed_event_id = v_closed;
    if p_insert then
        insert into events (position, stream, version, event_id, event_type, schema_version, company_id, payload, metadata, occurred_at, recorded_at, hash)
        select o_position + e.n, p_streams[e.slot], o_found[e.slot] + e.o, e.event_id, e.event_type, e.schema_version, p_companies[e.slot],
               e.payload::jsonb, e.metadata::jsonb, e.occurred_at, o_recorded_at, e.hash
          from unnest(p_slots, p_offsets, p_event_ids, p_types, p_schemas, p_payloads, p_metadata, p_occurred, v_hashes)
               with ordinality e(slot, o, event_id, event_type, schema_version, payload, metadata, occurred_at, hash, n);
        o_found := null;
    else
        o_hashes := v_hashes;
    end if;
    o_owners := null;
    o_last_hash := v_hash;
    o_clock := clock_timestamp();
end $$;

CREATE FUNCTION newvoice.attach_newest_detached_partition() RETURNS text
    LANGUAGE plpgsql
    AS $$
declare
    v record;
begin
    perform pg_advisory_xact_lock(hashtextextended(current_schema() || '.event_partitions', 0));
    select * into v from detached_partitions order by first desc limit 1;
    if not found then
        raise exception 'no partition is detached' using errcode = 'NV002';
    end if;
    if to_regclass(format('%I', v.name)) is null then
        raise exception 'the table % is not there: restore it first', v.name using errcode = 'NV002';
    end if;
    set local lock_timeout = '2s';
    execute format('drop trigger if exists events_append_only on %I', v.name);
    execute format('alter table events attach partition %I for values from (%s) to (%s)', v.name, v.first, v.beyond);
    delete from detached_partitions where name = v.name;
    return v.name;
end $$;

CREATE FUNCTION newvoice.campaign_pacing(p_company uuid, p_campaign uuid) RETURNS TABLE(in_progress bigint, claims_last_60s bigint, due_retries bigint, next_due_at timestamp with time zone)
    LANGUAGE sql STABLE
    AS $$
    select (select count(*) from claim_slots where company_id = p_company and campaign_id = p_campaign and released_at is null),
           (select count(*) from claim_slots where company_id = p_company and campaign_id = p_campaign
               and confirmed_at > now() - interval '60 seconds'),
           (select count(*) from call_tasks where company_id = p_company and campaign_id = p_campaign
               and status = 'retry' and next_attempt_at <= now()),
           (select min(next_attempt_at) from call_tasks where company_id = p_company and campaign_id = p_campaign
               and status = 'retry' and next_attempt_at > now())
$$;

CREATE FUNCTION newvoice.current_company() RETURNS uuid
    LANGUAGE sql STABLE PARALLEL SAFE
    AS $$ select nullif(current_setting('newvoice.company_id', true), '')::uuid $$;

CREATE FUNCTION newvoice.detach_oldest_partition() RETURNS text
    LANGUAGE plpgsql
    AS $$
declare
    v record;
begin
    perform pg_advisory_xact_lock(hashtextextended(current_schema() || '.event_partitions', 0));
    select * into v from event_partitions order by first limit 1;
    if (select position from log_head) < v.beyond - 1 then
        raise exception 'partition % is being filled', v.name using errcode = 'NV002';
    end if;
    if not exists (select from log_seals s join events e on e.position = s.position and e.hash = s.hash where s.position = v.beyond - 1) then
        raise exception 'no seal says what the log was at position %', v.beyond - 1 using errcode = 'NV002';
    end if;
    if exists (select from projection_checkpoints where position < v.beyond - 1) then
        raise exception 'projections have not read partition % yet: %', v.name,
            (select string_agg(name, ', ' order by name) from projection_checkpoints where position < v.beyond - 1) using errcode = 'NV002';
    end if;
    if exists (select from workers where position < v.beyond - 1) then
        raise exception 'workers have not read partition % yet: %', v.name,
            (select string_agg(name, ', ' order by name) from workers where position < v.beyond - 1) using errcode = 'NV002';
    end if;
    -- Appends and readers wait for this lock, and it does not wait long for them.
    set local lock_timeout = '2s';
    execute format('alter table events detach partition %I', v.name);
    execute format('create trigger events_append_only before update or delete on %I for each row execute function refuse_change()', v.name);
    insert into detached_partitions (name, first, beyond) values (v.name, v.first, v.beyond);
    return v.name;
end $$;

CREATE FUNCTION newvoice.drop_read_model(p_name text, p_tables text[]) RETURNS void
    LANGUAGE plpgsql
    AS $$
declare t text;
begin
    foreach t in array p_tables loop
        execute format('drop table if exists %I, %I, %I cascade', t, t || '__next', t || '__previous');
    end loop;
    delete from projection_rebuilds where name = p_name;
    delete from projection_checkpoints where name = p_name;
end $$;

CREATE FUNCTION newvoice.ensure_event_partitions(p_size bigint, p_ahead bigint) RETURNS integer
    LANGUAGE plpgsql
    AS $_$
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
        perform protect_table(v_name);
        execute format('alter table events attach partition %I for values from (%s) to (%s)', v_name, v_from, v_from + p_size);
        execute format('create trigger events_no_truncate before truncate on %I for each statement execute function refuse_change()', v_name);
        v_made := v_made + 1;
    end loop;
    return v_made;
end $_$;

CREATE FUNCTION newvoice.is_process_gone(p_process text) RETURNS boolean
    LANGUAGE sql STABLE
    AS $$ select p_process is not null and not exists (
       select from pg_catalog.pg_stat_activity where datname = current_database() and starts_with(application_name || ' ', p_process || ' ')) $$;

CREATE FUNCTION newvoice.log_partition(p_position bigint, OUT o_end bigint, OUT o_closed_event_id uuid) RETURNS record
    LANGUAGE plpgsql
    AS $$
declare
    v_from bigint;
begin
    select b.first, b.beyond into v_from, o_end from event_partitions b where p_position + 1 >= b.first and p_position + 1 < b.beyond;
    select e.event_id into o_closed_event_id from events e where e.position < v_from order by e.event_id desc limit 1;
    o_end := coalesce(o_end, 0);
    o_closed_event_id := coalesce(o_closed_event_id, '00000000-0000-0000-0000-000000000000');
end $$;

CREATE FUNCTION newvoice.protect_table(p_table text) RETURNS void
    LANGUAGE plpgsql
    AS $_$
declare a record;
begin
    if exists (select from pg_attribute where attrelid = to_regclass(quote_ident(p_table)) and attname = 'company_id' and not attisdropped) then
        execute format('alter table %I enable row level security', p_table);
        execute format('alter table %I force row level security', p_table);
        execute format('drop policy if exists company on %I', p_table);
        execute format('create policy company on %I using (company_id = (select current_company()) or (select sees_every_company()))
                                                    with check (company_id = (select current_company()) or (select sees_every_company()))', p_table);
    end if;
    for a in select * from table_access where table_name = regexp_replace(p_table, '__(next|previous)$', '') loop
        if to_regrole(quote_ident(service_role(a.role))) is not null then
            execute format('grant %s on %I to %I', a.privileges, p_table, service_role(a.role));
        end if;
    end loop;
end $_$;

CREATE FUNCTION newvoice.protect_tables() RETURNS void
    LANGUAGE plpgsql
    AS $$
declare t text; r text;
begin
    foreach r in array array['app', 'identity', 'log', 'work'] loop
        if to_regrole(quote_ident(service_role(r))) is not null then
            execute format('grant usage on schema %I to %I', current_schema(), service_role(r));
        end if;
    end loop;
    for t in select relname from pg_class where relnamespace = current_schema()::regnamespace and relkind in ('r', 'p', 'v') and relname <> '_sqlx_migrations' loop
        perform protect_table(t);
    end loop;
end $$;

CREATE FUNCTION newvoice.rebuild_create(p_tables text[]) RETURNS void
    LANGUAGE plpgsql
    AS $$
declare t text; i record;
begin
    foreach t in array p_tables loop
        execute format('drop table if exists %I cascade', t || '__next');
        execute format('create table %I (like %I including all excluding indexes)', t || '__next', t);
        perform protect_table(t || '__next');
        for i in select c.relname, x.indisprimary, pg_get_indexdef(x.indexrelid) as definition
                   from pg_index x join pg_class c on c.oid = x.indexrelid where x.indrelid = to_regclass(quote_ident(t)) loop
            execute regexp_replace(i.definition, '^(CREATE (?:UNIQUE )?INDEX) \S+ ON (?:ONLY )?\S+ USING',
                                   format('\1 %I ON %I USING', left(i.relname, 53) || '__next', t || '__next'));
            if i.indisprimary then
                execute format('alter table %I add primary key using index %I', t || '__next', left(i.relname, 53) || '__next');
            end if;
        end loop;
    end loop;
end $$;

CREATE FUNCTION newvoice.rebuild_differences(p_table text) RETURNS TABLE(side text, content jsonb)
    LANGUAGE plpgsql
    AS $_$
begin
    return query execute format(
        '(select ''live'', to_jsonb(d) from (select * from %1$I.%2$I except all select * from %1$I.%3$I) d)
         union all
         (select ''rebuilt'', to_jsonb(d) from (select * from %1$I.%3$I except all select * from %1$I.%2$I) d)',
        current_schema(), p_table, p_table || '__next');
end $_$;

CREATE FUNCTION newvoice.rebuild_discard(p_tables text[]) RETURNS void
    LANGUAGE plpgsql
    AS $$
declare t text;
begin
    foreach t in array p_tables loop
        execute format('drop table if exists %I cascade', t || '__next');
    end loop;
end $$;

CREATE FUNCTION newvoice.rebuild_keep_vacuum_out(p_tables text[]) RETURNS void
    LANGUAGE plpgsql
    AS $_$
declare t text;
begin
    foreach t in array p_tables loop
        -- By its full name: this session sees the next table under the live one's.
        execute format('lock table %1$I.%2$I, %1$I.%3$I in share update exclusive mode', current_schema(), t, t || '__next');
    end loop;
end $_$;

CREATE FUNCTION newvoice.rebuild_redirect(p_tables text[]) RETURNS void
    LANGUAGE plpgsql
    AS $$
declare t text;
begin
    foreach t in array p_tables loop
        execute format('create or replace temporary view %I as select * from %I.%I', t, current_schema(), t || '__next');
    end loop;
end $$;

CREATE FUNCTION newvoice.rebuild_rename(p_table text, p_from text, p_to text) RETURNS void
    LANGUAGE plpgsql
    AS $_$
declare i text;
begin
    for i in select c.relname from pg_index x join pg_class c on c.oid = x.indexrelid where x.indrelid = to_regclass(quote_ident(p_table || p_from)) loop
        -- Names have 63 bytes at most.
        execute format('alter index %I rename to %I', i, left(regexp_replace(i, p_from || '$', ''), 53) || p_to);
    end loop;
    execute format('alter table %I rename to %I', p_table || p_from, p_table || p_to);
end $_$;

CREATE FUNCTION newvoice.rebuild_restore(p_tables text[]) RETURNS void
    LANGUAGE plpgsql
    AS $$
declare t text;
begin
    foreach t in array p_tables loop
        if to_regclass(quote_ident(t || '__previous')) is null then
            raise exception using errcode = 'NV003', message = format('there is no table of %s from before', t);
        end if;
        if exists (select from (select * from pg_attribute where attrelid in (to_regclass(quote_ident(t)), to_regclass(quote_ident(t || '__previous')))
                                   and attnum > 0 and not attisdropped) a
                    group by attname, atttypid having count(*) = 1) then
            raise exception using errcode = 'NV003', message = format('the table of %s from before has other columns', t);
        end if;
        execute format('drop table if exists %I cascade', t || '__next');
        perform rebuild_rename(t, '__previous', '__next');
    end loop;
end $$;

CREATE FUNCTION newvoice.rebuild_swap(p_tables text[]) RETURNS void
    LANGUAGE plpgsql
    AS $$
declare t text;
begin
    foreach t in array p_tables loop
        execute format('drop table if exists %I cascade', t || '__previous');
        perform rebuild_rename(t, '', '__previous');
        perform rebuild_rename(t, '__next', '');
    end loop;
end $$;

CREATE FUNCTION newvoice.rebuild_undirect(p_tables text[]) RETURNS void
    LANGUAGE plpgsql
    AS $$
declare t text;
begin
    foreach t in array p_tables loop
        execute format('drop view if exists pg_temp.%I', t);
    end loop;
end $$;

CREATE FUNCTION newvoice.refuse_change() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
begin
    raise exception 'the log is append-only: % on % is refused', tg_op, tg_table_name using errcode = 'restrict_violation';
end $$;

CREATE FUNCTION newvoice.require_as_predicted(p_holds boolean) RETURNS boolean
    LANGUAGE plpgsql
    AS $$
begin
    if p_holds then return true; end if;
    raise exception 'the log is not as predicted' using errcode = 'NV001';
end $$;

CREATE FUNCTION newvoice.sees_every_company() RETURNS boolean
    LANGUAGE sql STABLE PARALLEL SAFE
    AS $$ select current_user in ('newvoice' || '_log_' || left(md5(current_database()), 8), 'newvoice' || '_work_' || left(md5(current_database()), 8),
                                   'newvoice' || '_identity_' || left(md5(current_database()), 8))
               or pg_has_role(current_user, (select c.relowner from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
                                              where n.nspname = 'newvoice' and c.relname = 'log_head'), 'usage') $$;

CREATE FUNCTION newvoice.service_role(p_role text) RETURNS text
    LANGUAGE sql STABLE
    AS $$ select current_schema() || '_' || p_role || '_' || left(md5(current_database()), 8) $$;

CREATE FUNCTION newvoice.stream_version_at(p_stream text, p_position bigint) RETURNS bigint
    LANGUAGE plpgsql STABLE
    AS $$
declare
    v_low bigint := 0;
    v_high bigint := coalesce((select version from streams where stream = p_stream), 0);
    v_middle bigint;
begin
    if p_position <= 0 then return 0; end if;
    while v_low < v_high loop
        v_middle := v_low + (v_high - v_low + 1) / 2;
        if coalesce((select position from events where stream = p_stream and version = v_middle) <= p_position, true) then
            v_low := v_middle;
        else
            v_high := v_middle - 1;
        end if;
    end loop;
    return v_low;
end $$;

CREATE FUNCTION newvoice.take_claim_slot(p_company uuid, p_campaign uuid, p_task uuid, p_call uuid, p_max_concurrent bigint, p_per_minute bigint, p_process text, OUT answer text, OUT taken timestamp with time zone, OUT is_shared boolean) RETURNS record
    LANGUAGE plpgsql
    AS $$
declare
    v_now timestamptz;
begin
    perform pg_advisory_xact_lock(hashtextextended(current_schema() || p_campaign::text, 0));
    v_now := clock_timestamp();
    -- The same claim again, perhaps from another process. While its first try may still come into the log, the call has no second slot.
    update claim_slots set taken_by = p_process, taken_at = greatest(v_now, taken_at + interval '1 microsecond')
     where call_id = p_call and task_id = p_task and released_at is null
    returning taken_at into taken;
    is_shared := found;
    if found then answer := 'ok'; return; end if;
    answer := 'taken';
    if exists (select from claim_slots where call_id = p_call and released_at is null) then return; end if;
    delete from claim_slots where call_id = p_call and confirmed_at is null;
    if exists (select from claim_slots where call_id = p_call) then return; end if;
    if exists (select from claim_slots where task_id = p_task and released_at is null) then return; end if;
    answer := 'concurrency';
    if (select count(*) from claim_slots where campaign_id = p_campaign and released_at is null) >= p_max_concurrent then return; end if;
    answer := 'rate';
    if (select count(*) from claim_slots where campaign_id = p_campaign
          and (confirmed_at > v_now - interval '60 seconds' or (confirmed_at is null and released_at is null))) >= p_per_minute then return; end if;
    insert into claim_slots (call_id, company_id, campaign_id, task_id, taken_at, taken_by) values (p_call, p_company, p_campaign, p_task, v_now, p_process);
    answer := 'ok';
    taken := v_now;
end $$;

CREATE TABLE newvoice.api_key_credentials (
    key_hash bytea NOT NULL,
    api_key_id uuid NOT NULL,
    company_id uuid NOT NULL,
    name text NOT NULL,
    role text NOT NULL,
    revoked_at timestamp with time zone,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    prefix text,
    last_used_at timestamp with time zone
);

ALTER TABLE ONLY newvoice.api_key_credentials FORCE ROW LEVEL SECURITY;

CREATE TABLE newvoice.api_keys (
    company_id uuid NOT NULL,
    api_key_id uuid NOT NULL,
    stream_version bigint NOT NULL,
    created_at timestamp with time zone NOT NULL,
    updated_at timestamp with time zone NOT NULL,
    deleted_at timestamp with time zone,
    body jsonb NOT NULL,
    personal jsonb,
    name text GENERATED ALWAYS AS ((body ->> 'name'::text)) STORED,
    role text GENERATED ALWAYS AS ((body ->> 'role'::text)) STORED
);

ALTER TABLE ONLY newvoice.api_keys FORCE ROW LEVEL SECURITY;

CREATE TABLE newvoice.attempt_allowances (
    subject bytea NOT NULL,
    full_at timestamp with time zone NOT NULL
);

CREATE TABLE newvoice.audit_log (
    company_id uuid NOT NULL,
    audit_id uuid NOT NULL,
    at timestamp with time zone NOT NULL,
    actor jsonb,
    action text NOT NULL,
    path text NOT NULL,
    status smallint NOT NULL,
    reason text,
    request_id uuid NOT NULL,
    client text,
    user_agent text,
    actor_id text GENERATED ALWAYS AS ((actor ->> 'id'::text)) STORED,
    count integer DEFAULT 1 NOT NULL
);

ALTER TABLE ONLY newvoice.audit_log FORCE ROW LEVEL SECURITY;

CREATE TABLE newvoice.auth_tickets (
    ticket_hash bytea NOT NULL,
    caller jsonb NOT NULL,
    expires_at timestamp with time zone NOT NULL
);

CREATE TABLE newvoice.call_list_imports (
    company_id uuid NOT NULL,
    import_id uuid NOT NULL,
    campaign_id uuid NOT NULL,
    file_name text NOT NULL,
    total bigint NOT NULL,
    created bigint NOT NULL,
    error_count bigint NOT NULL,
    errors text[] NOT NULL,
    imported_at timestamp with time zone NOT NULL
);

ALTER TABLE ONLY newvoice.call_list_imports FORCE ROW LEVEL SECURITY;

CREATE TABLE newvoice.call_logs (
    company_id uuid NOT NULL,
    call_id uuid NOT NULL,
    turn_index integer NOT NULL,
    occurred_at timestamp with time zone NOT NULL,
    recorded_at timestamp with time zone NOT NULL,
    user_text text,
    agent_text text,
    state text,
    ttfb_stt_us bigint,
    latency_llm_us bigint,
    ttfb_tts_us bigint,
    eou_latency_us bigint,
    stt_duration_sec numeric,
    llm_input_tokens bigint,
    llm_output_tokens bigint,
    tts_characters bigint,
    interrupted boolean NOT NULL,
    stt_provider text,
    llm_provider text,
    llm_model text,
    tts_provider text,
    personal jsonb
);

ALTER TABLE ONLY newvoice.call_logs FORCE ROW LEVEL SECURITY;

CREATE TABLE newvoice.call_metrics (
    company_id uuid NOT NULL,
    call_id uuid NOT NULL,
    campaign_id uuid,
    skillbase_id uuid,
    started_at timestamp with time zone NOT NULL,
    turn_count bigint NOT NULL,
    interruption_count bigint NOT NULL,
    stt_duration_sec numeric,
    llm_input_tokens bigint,
    llm_output_tokens bigint,
    tts_characters bigint,
    ttfb_stt_us bigint[] NOT NULL,
    latency_llm_us bigint[] NOT NULL,
    ttfb_tts_us bigint[] NOT NULL,
    eou_latency_us bigint[] NOT NULL,
    duration_sec numeric,
    outcome text
);

ALTER TABLE ONLY newvoice.call_metrics FORCE ROW LEVEL SECURITY;

CREATE TABLE newvoice.call_repricings (
    company_id uuid NOT NULL,
    call_id uuid NOT NULL,
    "position" bigint NOT NULL,
    price_list_id uuid NOT NULL,
    repriced_at timestamp with time zone NOT NULL,
    changes jsonb NOT NULL
);

ALTER TABLE ONLY newvoice.call_repricings FORCE ROW LEVEL SECURITY;

CREATE TABLE newvoice.call_rollups (
    company_id uuid NOT NULL,
    hour timestamp with time zone NOT NULL,
    campaign_id uuid NOT NULL,
    skillbase_id uuid NOT NULL,
    call_count bigint NOT NULL,
    ended_count bigint NOT NULL,
    turn_count bigint NOT NULL,
    interruption_count bigint NOT NULL,
    stt_duration_sec numeric NOT NULL,
    stt_calls bigint NOT NULL,
    llm_input_tokens bigint NOT NULL,
    llm_input_calls bigint NOT NULL,
    llm_output_tokens bigint NOT NULL,
    llm_output_calls bigint NOT NULL,
    tts_characters bigint NOT NULL,
    tts_calls bigint NOT NULL,
    duration_sec numeric NOT NULL,
    success bigint NOT NULL,
    fail bigint NOT NULL,
    voicemail bigint NOT NULL,
    no_answer bigint NOT NULL,
    busy bigint NOT NULL
);

ALTER TABLE ONLY newvoice.call_rollups FORCE ROW LEVEL SECURITY;

CREATE TABLE newvoice.call_tasks (
    company_id uuid NOT NULL,
    task_id uuid NOT NULL,
    campaign_id uuid NOT NULL,
    phone_number text NOT NULL,
    contact_name text,
    contact_data jsonb NOT NULL,
    status text NOT NULL,
    priority integer NOT NULL,
    attempt_count integer NOT NULL,
    last_attempt_at timestamp with time zone,
    next_attempt_at timestamp with time zone,
    call_id uuid,
    outcome text,
    error_message text,
    lease_sec integer,
    "position" bigint NOT NULL,
    stream_version bigint NOT NULL,
    created_at timestamp with time zone NOT NULL,
    updated_at timestamp with time zone NOT NULL,
    person_id uuid,
    personal jsonb,
    failure_personal jsonb,
    was_reopened boolean DEFAULT false NOT NULL
);

ALTER TABLE ONLY newvoice.call_tasks FORCE ROW LEVEL SECURITY;

CREATE TABLE newvoice.calls (
    company_id uuid NOT NULL,
    call_id uuid NOT NULL,
    campaign_id uuid,
    task_id uuid,
    skillbase_id uuid,
    skillbase_version integer,
    direction text NOT NULL,
    phone_number text NOT NULL,
    status text NOT NULL,
    started_at timestamp with time zone NOT NULL,
    ended_at timestamp with time zone,
    duration_sec numeric,
    final_state text,
    hangup_by text,
    outcome text,
    outcome_confidence_percent smallint,
    outcome_method text,
    last_event_at timestamp with time zone NOT NULL,
    stream_version bigint NOT NULL,
    created_at timestamp with time zone NOT NULL,
    person_id uuid,
    personal jsonb
);

ALTER TABLE ONLY newvoice.calls FORCE ROW LEVEL SECURITY;

CREATE TABLE newvoice.campaign_calls (
    company_id uuid NOT NULL,
    campaign_id uuid NOT NULL,
    call_count bigint NOT NULL,
    ended_count bigint NOT NULL,
    duration_sec numeric NOT NULL
);

ALTER TABLE ONLY newvoice.campaign_calls FORCE ROW LEVEL SECURITY;

CREATE TABLE newvoice.campaign_costs (
    company_id uuid NOT NULL,
    campaign_id uuid NOT NULL,
    call_count bigint NOT NULL,
    cost numeric NOT NULL
);

ALTER TABLE ONLY newvoice.campaign_costs FORCE ROW LEVEL SECURITY;

CREATE TABLE newvoice.campaign_stats (
    company_id uuid NOT NULL,
    campaign_id uuid NOT NULL,
    pending bigint NOT NULL,
    in_progress bigint NOT NULL,
    retry bigint NOT NULL,
    completed bigint NOT NULL,
    failed bigint NOT NULL,
    cancelled bigint NOT NULL,
    success bigint NOT NULL,
    fail bigint NOT NULL,
    voicemail bigint NOT NULL,
    no_answer bigint NOT NULL,
    busy bigint NOT NULL,
    attempts bigint NOT NULL,
    first_attempt_at timestamp with time zone,
    last_attempt_at timestamp with time zone
);

ALTER TABLE ONLY newvoice.campaign_stats FORCE ROW LEVEL SECURITY;

CREATE TABLE newvoice.campaigns (
    company_id uuid NOT NULL,
    campaign_id uuid NOT NULL,
    stream_version bigint NOT NULL,
    created_at timestamp with time zone NOT NULL,
    updated_at timestamp with time zone NOT NULL,
    deleted_at timestamp with time zone,
    body jsonb NOT NULL,
    personal jsonb,
    name text GENERATED ALWAYS AS ((body #>> '{settings,name}'::text[])) STORED,
    skillbase_id uuid GENERATED ALWAYS AS (((body #>> '{settings,skillbase_id}'::text[]))::uuid) STORED,
    dialed_by text GENERATED ALWAYS AS ((body #>> '{settings,dialed_by}'::text[])) STORED,
    status text GENERATED ALWAYS AS (
CASE
    WHEN (deleted_at IS NULL) THEN (body ->> 'status'::text)
    ELSE 'deleted'::text
END) STORED,
    total_tasks bigint GENERATED ALWAYS AS (((body ->> 'total_tasks'::text))::bigint) STORED
);

ALTER TABLE ONLY newvoice.campaigns FORCE ROW LEVEL SECURITY;

CREATE TABLE newvoice.claim_slots (
    call_id uuid NOT NULL,
    company_id uuid NOT NULL,
    campaign_id uuid NOT NULL,
    task_id uuid NOT NULL,
    taken_at timestamp with time zone NOT NULL,
    confirmed_at timestamp with time zone,
    alive_at timestamp with time zone,
    released_at timestamp with time zone,
    taken_by text
);

ALTER TABLE ONLY newvoice.claim_slots FORCE ROW LEVEL SECURITY;

CREATE TABLE newvoice.companies (
    company_id uuid NOT NULL,
    name text NOT NULL,
    slug text NOT NULL,
    email text,
    version bigint NOT NULL,
    created_at timestamp with time zone NOT NULL,
    updated_at timestamp with time zone NOT NULL
);

ALTER TABLE ONLY newvoice.companies FORCE ROW LEVEL SECURITY;

CREATE TABLE newvoice.company_keys (
    company_id uuid NOT NULL,
    wrapped_key bytea NOT NULL,
    master_key_id bytea NOT NULL,
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);

ALTER TABLE ONLY newvoice.company_keys FORCE ROW LEVEL SECURITY;

CREATE TABLE newvoice.cost_calls (
    company_id uuid NOT NULL,
    call_id uuid NOT NULL,
    campaign_id uuid,
    skillbase_id uuid,
    started_at timestamp with time zone NOT NULL,
    duration_sec numeric,
    first_usage_at timestamp with time zone NOT NULL,
    last_usage_at timestamp with time zone NOT NULL,
    cost_stt numeric NOT NULL,
    cost_llm numeric NOT NULL,
    cost_tts numeric NOT NULL,
    cost_livekit numeric NOT NULL,
    lines jsonb NOT NULL,
    has_unpriced boolean NOT NULL
);

ALTER TABLE ONLY newvoice.cost_calls FORCE ROW LEVEL SECURITY;

CREATE TABLE newvoice.cost_price_lists (
    company_id uuid NOT NULL,
    price_list_id uuid NOT NULL,
    effective_from timestamp with time zone NOT NULL,
    "position" bigint NOT NULL,
    rates jsonb NOT NULL,
    is_withdrawn boolean DEFAULT false NOT NULL
);

ALTER TABLE ONLY newvoice.cost_price_lists FORCE ROW LEVEL SECURITY;

CREATE TABLE newvoice.cost_rollups (
    company_id uuid NOT NULL,
    hour timestamp with time zone NOT NULL,
    campaign_id uuid NOT NULL,
    skillbase_id uuid NOT NULL,
    component text NOT NULL,
    provider text NOT NULL,
    cost numeric NOT NULL,
    call_count bigint NOT NULL
);

ALTER TABLE ONLY newvoice.cost_rollups FORCE ROW LEVEL SECURITY;

CREATE TABLE newvoice.detached_partitions (
    name text NOT NULL,
    first bigint NOT NULL,
    beyond bigint NOT NULL,
    detached_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);

CREATE TABLE newvoice.erasures (
    only_row boolean DEFAULT true NOT NULL,
    count bigint NOT NULL,
    recent uuid[] DEFAULT '{}'::uuid[] NOT NULL,
    CONSTRAINT erasures_only_row_check CHECK (only_row)
);

CREATE TABLE newvoice.events (
    "position" bigint NOT NULL,
    stream text NOT NULL COLLATE pg_catalog."C",
    version bigint NOT NULL,
    event_id uuid NOT NULL,
    event_type text NOT NULL COLLATE pg_catalog."C",
    schema_version smallint NOT NULL,
    company_id uuid NOT NULL,
    payload jsonb NOT NULL,
    metadata jsonb NOT NULL,
    occurred_at timestamp with time zone NOT NULL,
    recorded_at timestamp with time zone NOT NULL,
    hash bytea NOT NULL
)
PARTITION BY RANGE ("position");

ALTER TABLE ONLY newvoice.events FORCE ROW LEVEL SECURITY;

CREATE VIEW newvoice.event_partitions WITH (security_invoker='true') AS
 SELECT (c.relname)::text AS name,
    ((regexp_match(pg_get_expr(c.relpartbound, c.oid), 'FROM \(''?(\d+)''?\)'::text))[1])::bigint AS first,
    ((regexp_match(pg_get_expr(c.relpartbound, c.oid), 'TO \(''?(\d+)''?\)'::text))[1])::bigint AS beyond
   FROM (pg_inherits i
     JOIN pg_class c ON ((c.oid = i.inhrelid)))
  WHERE (i.inhparent = ('newvoice.events'::regclass)::oid);

CREATE TABLE newvoice.idempotency_keys (
    company_id uuid NOT NULL,
    method text NOT NULL,
    path text NOT NULL,
    key_hash text NOT NULL,
    body_hash bytea NOT NULL,
    status smallint,
    sealed_answer bytea,
    locked_until timestamp with time zone NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    locked_by text
);

ALTER TABLE ONLY newvoice.idempotency_keys FORCE ROW LEVEL SECURITY;

CREATE TABLE newvoice.installation (
    only_row boolean DEFAULT true NOT NULL,
    master_key_id bytea NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT installation_only_row_check CHECK (only_row)
);

CREATE TABLE newvoice.known_networks (
    subject bytea NOT NULL,
    last_at timestamp with time zone NOT NULL
);

CREATE TABLE newvoice.latency_rollups (
    company_id uuid NOT NULL,
    hour timestamp with time zone NOT NULL,
    campaign_id uuid NOT NULL,
    skillbase_id uuid NOT NULL,
    latency text NOT NULL,
    count bigint NOT NULL,
    sum_us numeric NOT NULL,
    min_us bigint NOT NULL,
    max_us bigint NOT NULL,
    buckets integer[] NOT NULL,
    counts bigint[] NOT NULL
);

ALTER TABLE ONLY newvoice.latency_rollups FORCE ROW LEVEL SECURITY;

CREATE TABLE newvoice.log_head (
    only_row boolean DEFAULT true NOT NULL,
    "position" bigint NOT NULL,
    hash bytea NOT NULL,
    recorded_at timestamp with time zone NOT NULL,
    partition_end bigint DEFAULT 0 NOT NULL,
    closed_event_id uuid DEFAULT '00000000-0000-0000-0000-000000000000'::uuid NOT NULL,
    CONSTRAINT log_head_hash_check CHECK ((length(hash) = 32)),
    CONSTRAINT log_head_only_row_check CHECK (only_row)
);

CREATE TABLE newvoice.log_seal_keys (
    public_key bytea NOT NULL,
    named_by bytea NOT NULL,
    named_at timestamp with time zone NOT NULL,
    signature bytea NOT NULL,
    countersignature bytea NOT NULL,
    CONSTRAINT log_seal_keys_countersignature_check CHECK ((length(countersignature) = 64)),
    CONSTRAINT log_seal_keys_named_by_check CHECK ((length(named_by) = 32)),
    CONSTRAINT log_seal_keys_public_key_check CHECK ((length(public_key) = 32)),
    CONSTRAINT log_seal_keys_signature_check CHECK ((length(signature) = 64))
);

CREATE TABLE newvoice.log_seals (
    "position" bigint NOT NULL,
    hash bytea NOT NULL,
    sealed_at timestamp with time zone NOT NULL,
    public_key bytea NOT NULL,
    signature bytea NOT NULL,
    CONSTRAINT log_seals_hash_check CHECK ((length(hash) = 32)),
    CONSTRAINT log_seals_position_check CHECK (("position" > 0)),
    CONSTRAINT log_seals_public_key_check CHECK ((length(public_key) = 32)),
    CONSTRAINT log_seals_signature_check CHECK ((length(signature) = 64))
);

CREATE TABLE newvoice.person_keys (
    company_id uuid NOT NULL,
    person_id uuid NOT NULL,
    phone_hash bytea,
    wrapped_key bytea NOT NULL,
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);

ALTER TABLE ONLY newvoice.person_keys FORCE ROW LEVEL SECURITY;

CREATE TABLE newvoice.price_lists (
    company_id uuid NOT NULL,
    price_list_id uuid NOT NULL,
    name text NOT NULL,
    effective_from timestamp with time zone NOT NULL,
    rates jsonb NOT NULL,
    "position" bigint NOT NULL,
    created_at timestamp with time zone NOT NULL,
    withdrawn_at timestamp with time zone
);

ALTER TABLE ONLY newvoice.price_lists FORCE ROW LEVEL SECURITY;

CREATE TABLE newvoice.projection_checkpoints (
    name text NOT NULL COLLATE pg_catalog."C",
    version integer NOT NULL,
    "position" bigint NOT NULL,
    error_position bigint,
    error text,
    holder uuid,
    token bigint DEFAULT 0 NOT NULL,
    lease_until timestamp with time zone DEFAULT '-infinity'::timestamp with time zone NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    previous_position bigint,
    previous_version integer,
    holder_process text
);

CREATE TABLE newvoice.projection_rebuilds (
    name text NOT NULL COLLATE pg_catalog."C",
    version integer NOT NULL,
    "position" bigint,
    purpose text DEFAULT 'rebuild'::text NOT NULL,
    requested_at timestamp with time zone DEFAULT now() NOT NULL,
    error text,
    holder uuid,
    token bigint DEFAULT 0 NOT NULL,
    lease_until timestamp with time zone DEFAULT '-infinity'::timestamp with time zone NOT NULL,
    began_at timestamp with time zone,
    began_position bigint,
    CONSTRAINT projection_rebuilds_purpose_check CHECK ((purpose = ANY (ARRAY['rebuild'::text, 'restore'::text, 'comparison'::text])))
);

CREATE TABLE newvoice.refresh_tokens (
    token_hash bytea NOT NULL,
    family uuid NOT NULL,
    user_id uuid NOT NULL,
    company_id uuid NOT NULL,
    expires_at timestamp with time zone NOT NULL,
    used_at timestamp with time zone,
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);

ALTER TABLE ONLY newvoice.refresh_tokens FORCE ROW LEVEL SECURITY;

CREATE TABLE newvoice.signing_keys (
    key_id uuid NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    sealed_seed bytea NOT NULL
);

CREATE TABLE newvoice.skillbase_versions (
    company_id uuid NOT NULL,
    skillbase_id uuid NOT NULL,
    version integer NOT NULL,
    name text NOT NULL,
    slug text NOT NULL,
    config jsonb NOT NULL,
    created_at timestamp with time zone NOT NULL
);

ALTER TABLE ONLY newvoice.skillbase_versions FORCE ROW LEVEL SECURITY;

CREATE TABLE newvoice.skillbases (
    company_id uuid NOT NULL,
    skillbase_id uuid NOT NULL,
    name text NOT NULL,
    slug text NOT NULL,
    config jsonb NOT NULL,
    version integer NOT NULL,
    stream_version bigint NOT NULL,
    created_at timestamp with time zone NOT NULL,
    updated_at timestamp with time zone NOT NULL,
    description text,
    is_active boolean DEFAULT true NOT NULL,
    is_published boolean DEFAULT false NOT NULL
);

ALTER TABLE ONLY newvoice.skillbases FORCE ROW LEVEL SECURITY;

CREATE TABLE newvoice.streams (
    stream text NOT NULL COLLATE pg_catalog."C",
    company_id uuid NOT NULL,
    version bigint NOT NULL,
    CONSTRAINT streams_version_check CHECK ((version > 0))
)
WITH (fillfactor='80');

ALTER TABLE ONLY newvoice.streams FORCE ROW LEVEL SECURITY;

CREATE TABLE newvoice.table_access (
    table_name text NOT NULL COLLATE pg_catalog."C",
    role text NOT NULL,
    privileges text NOT NULL
);

CREATE TABLE newvoice.user_credentials (
    email_hash text NOT NULL,
    user_id uuid NOT NULL,
    company_id uuid NOT NULL,
    role text NOT NULL,
    password_hash text,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    disabled_at timestamp with time zone,
    invitation_hash bytea,
    invitation_until timestamp with time zone,
    operator_since timestamp with time zone,
    pending_since timestamp with time zone
);

ALTER TABLE ONLY newvoice.user_credentials FORCE ROW LEVEL SECURITY;

CREATE TABLE newvoice.users (
    company_id uuid NOT NULL,
    user_id uuid NOT NULL,
    stream_version bigint NOT NULL,
    created_at timestamp with time zone NOT NULL,
    updated_at timestamp with time zone NOT NULL,
    deleted_at timestamp with time zone,
    body jsonb NOT NULL,
    personal jsonb,
    email text GENERATED ALWAYS AS ((body ->> 'email'::text)) STORED,
    role text GENERATED ALWAYS AS ((body ->> 'role'::text)) STORED,
    status text GENERATED ALWAYS AS ((body ->> 'status'::text)) STORED
);

ALTER TABLE ONLY newvoice.users FORCE ROW LEVEL SECURITY;

CREATE TABLE newvoice.worker_failures (
    worker text NOT NULL COLLATE pg_catalog."C",
    item text NOT NULL COLLATE pg_catalog."C",
    company_id uuid,
    attempts integer NOT NULL,
    error text NOT NULL,
    failed_at timestamp with time zone NOT NULL,
    retry_at timestamp with time zone
);

ALTER TABLE ONLY newvoice.worker_failures FORCE ROW LEVEL SECURITY;

CREATE TABLE newvoice.workers (
    name text NOT NULL COLLATE pg_catalog."C",
    holder uuid,
    holder_process text,
    token bigint DEFAULT 0 NOT NULL,
    lease_until timestamp with time zone DEFAULT '-infinity'::timestamp with time zone NOT NULL,
    "position" bigint,
    round_at timestamp with time zone,
    due_at timestamp with time zone DEFAULT '-infinity'::timestamp with time zone NOT NULL,
    error text,
    error_at timestamp with time zone
);

ALTER TABLE ONLY newvoice.api_key_credentials
    ADD CONSTRAINT api_key_credentials_api_key_id_key UNIQUE (api_key_id);

ALTER TABLE ONLY newvoice.api_key_credentials
    ADD CONSTRAINT api_key_credentials_pkey PRIMARY KEY (key_hash);

ALTER TABLE ONLY newvoice.api_keys
    ADD CONSTRAINT api_keys_pkey PRIMARY KEY (company_id, api_key_id);

ALTER TABLE ONLY newvoice.attempt_allowances
    ADD CONSTRAINT attempt_allowances_pkey PRIMARY KEY (subject);

ALTER TABLE ONLY newvoice.audit_log
    ADD CONSTRAINT audit_log_pkey PRIMARY KEY (company_id, audit_id);

ALTER TABLE ONLY newvoice.auth_tickets
    ADD CONSTRAINT auth_tickets_pkey PRIMARY KEY (ticket_hash);

ALTER TABLE ONLY newvoice.call_list_imports
    ADD CONSTRAINT call_list_imports_pkey PRIMARY KEY (company_id, import_id);

ALTER TABLE ONLY newvoice.call_logs
    ADD CONSTRAINT call_logs_pkey PRIMARY KEY (company_id, call_id, turn_index);

ALTER TABLE ONLY newvoice.call_metrics
    ADD CONSTRAINT call_metrics_pkey PRIMARY KEY (company_id, call_id);

ALTER TABLE ONLY newvoice.call_repricings
    ADD CONSTRAINT call_repricings_pkey PRIMARY KEY (company_id, call_id, "position");

ALTER TABLE ONLY newvoice.call_rollups
    ADD CONSTRAINT call_rollups_pkey PRIMARY KEY (company_id, hour, campaign_id, skillbase_id);

ALTER TABLE ONLY newvoice.call_tasks
    ADD CONSTRAINT call_tasks_pkey PRIMARY KEY (company_id, task_id);

ALTER TABLE ONLY newvoice.calls
    ADD CONSTRAINT calls_pkey PRIMARY KEY (company_id, call_id);

ALTER TABLE ONLY newvoice.campaign_calls
    ADD CONSTRAINT campaign_calls_pkey PRIMARY KEY (company_id, campaign_id);

ALTER TABLE ONLY newvoice.campaign_costs
    ADD CONSTRAINT campaign_costs_pkey PRIMARY KEY (company_id, campaign_id);

ALTER TABLE ONLY newvoice.campaign_stats
    ADD CONSTRAINT campaign_stats_pkey PRIMARY KEY (company_id, campaign_id);

ALTER TABLE ONLY newvoice.campaigns
    ADD CONSTRAINT campaigns_pkey PRIMARY KEY (company_id, campaign_id);

ALTER TABLE ONLY newvoice.claim_slots
    ADD CONSTRAINT claim_slots_pkey PRIMARY KEY (call_id);

ALTER TABLE ONLY newvoice.companies
    ADD CONSTRAINT companies_pkey PRIMARY KEY (company_id);

ALTER TABLE ONLY newvoice.company_keys
    ADD CONSTRAINT company_keys_pkey PRIMARY KEY (company_id);

ALTER TABLE ONLY newvoice.cost_calls
    ADD CONSTRAINT cost_calls_pkey PRIMARY KEY (company_id, call_id);

ALTER TABLE ONLY newvoice.cost_price_lists
    ADD CONSTRAINT cost_price_lists_pkey PRIMARY KEY (company_id, price_list_id);

ALTER TABLE ONLY newvoice.cost_rollups
    ADD CONSTRAINT cost_rollups_pkey PRIMARY KEY (company_id, hour, campaign_id, skillbase_id, component, provider);

ALTER TABLE ONLY newvoice.detached_partitions
    ADD CONSTRAINT detached_partitions_pkey PRIMARY KEY (name);

ALTER TABLE ONLY newvoice.erasures
    ADD CONSTRAINT erasures_pkey PRIMARY KEY (only_row);

ALTER TABLE ONLY newvoice.events
    ADD CONSTRAINT events_pkey PRIMARY KEY ("position");

ALTER TABLE ONLY newvoice.idempotency_keys
    ADD CONSTRAINT idempotency_keys_pkey PRIMARY KEY (company_id, method, path, key_hash);

ALTER TABLE ONLY newvoice.installation
    ADD CONSTRAINT installation_pkey PRIMARY KEY (only_row);

ALTER TABLE ONLY newvoice.known_networks
    ADD CONSTRAINT known_networks_pkey PRIMARY KEY (subject);

ALTER TABLE ONLY newvoice.latency_rollups
    ADD CONSTRAINT latency_rollups_pkey PRIMARY KEY (company_id, hour, campaign_id, skillbase_id, latency);

ALTER TABLE ONLY newvoice.log_head
    ADD CONSTRAINT log_head_pkey PRIMARY KEY (only_row);

ALTER TABLE ONLY newvoice.log_seal_keys
    ADD CONSTRAINT log_seal_keys_pkey PRIMARY KEY (public_key, signature);

ALTER TABLE ONLY newvoice.log_seals
    ADD CONSTRAINT log_seals_pkey PRIMARY KEY ("position");

ALTER TABLE ONLY newvoice.person_keys
    ADD CONSTRAINT person_keys_company_id_phone_hash_key UNIQUE (company_id, phone_hash);

ALTER TABLE ONLY newvoice.person_keys
    ADD CONSTRAINT person_keys_pkey PRIMARY KEY (company_id, person_id);

ALTER TABLE ONLY newvoice.price_lists
    ADD CONSTRAINT price_lists_pkey PRIMARY KEY (company_id, price_list_id);

ALTER TABLE ONLY newvoice.projection_checkpoints
    ADD CONSTRAINT projection_checkpoints_pkey PRIMARY KEY (name);

ALTER TABLE ONLY newvoice.projection_rebuilds
    ADD CONSTRAINT projection_rebuilds_pkey PRIMARY KEY (name);

ALTER TABLE ONLY newvoice.refresh_tokens
    ADD CONSTRAINT refresh_tokens_pkey PRIMARY KEY (token_hash);

ALTER TABLE ONLY newvoice.signing_keys
    ADD CONSTRAINT signing_keys_pkey PRIMARY KEY (key_id);

ALTER TABLE ONLY newvoice.skillbase_versions
    ADD CONSTRAINT skillbase_versions_pkey PRIMARY KEY (company_id, skillbase_id, version);

ALTER TABLE ONLY newvoice.skillbases
    ADD CONSTRAINT skillbases_pkey PRIMARY KEY (company_id, skillbase_id);

ALTER TABLE ONLY newvoice.streams
    ADD CONSTRAINT streams_pkey PRIMARY KEY (stream);

ALTER TABLE ONLY newvoice.table_access
    ADD CONSTRAINT table_access_pkey PRIMARY KEY (table_name, role);

ALTER TABLE ONLY newvoice.user_credentials
    ADD CONSTRAINT user_credentials_invitation_hash_key UNIQUE (invitation_hash);

ALTER TABLE ONLY newvoice.user_credentials
    ADD CONSTRAINT user_credentials_pkey PRIMARY KEY (user_id);

ALTER TABLE ONLY newvoice.users
    ADD CONSTRAINT users_pkey PRIMARY KEY (company_id, user_id);

ALTER TABLE ONLY newvoice.worker_failures
    ADD CONSTRAINT worker_failures_pkey PRIMARY KEY (worker, item);

ALTER TABLE ONLY newvoice.workers
    ADD CONSTRAINT workers_pkey PRIMARY KEY (name);

CREATE INDEX api_keys_newest ON newvoice.api_keys USING btree (company_id, created_at DESC, api_key_id DESC) WHERE (deleted_at IS NULL);

CREATE INDEX audit_log_actor ON newvoice.audit_log USING btree (company_id, actor_id, at DESC, audit_id DESC) WHERE (actor_id IS NOT NULL);

CREATE INDEX audit_log_at ON newvoice.audit_log USING brin (at);

CREATE INDEX audit_log_newest ON newvoice.audit_log USING btree (company_id, at DESC, audit_id DESC);

CREATE INDEX audit_log_path ON newvoice.audit_log USING btree (company_id, path COLLATE "C", at DESC, audit_id DESC);

CREATE INDEX audit_log_refused ON newvoice.audit_log USING btree (company_id, at DESC, audit_id DESC) WHERE (status >= 400);

CREATE INDEX audit_log_request ON newvoice.audit_log USING btree (company_id, request_id);

CREATE INDEX auth_tickets_expires_at ON newvoice.auth_tickets USING btree (expires_at);

CREATE INDEX call_list_imports_newest ON newvoice.call_list_imports USING btree (company_id, campaign_id, imported_at DESC, import_id DESC);

CREATE INDEX call_metrics_started ON newvoice.call_metrics USING btree (company_id, started_at);

CREATE INDEX call_rollups_campaign ON newvoice.call_rollups USING btree (company_id, campaign_id);

CREATE INDEX call_tasks_in_progress ON newvoice.call_tasks USING btree (last_attempt_at) WHERE (status = 'in_progress'::text);

CREATE INDEX call_tasks_newest ON newvoice.call_tasks USING btree (company_id, campaign_id, "position" DESC);

CREATE INDEX call_tasks_outcome ON newvoice.call_tasks USING btree (company_id, campaign_id, outcome, "position" DESC) WHERE (outcome IS NOT NULL);

CREATE INDEX call_tasks_pending ON newvoice.call_tasks USING btree (campaign_id, priority DESC, "position") WHERE (status = 'pending'::text);

CREATE INDEX call_tasks_person ON newvoice.call_tasks USING btree (company_id, person_id) WHERE (person_id IS NOT NULL);

CREATE INDEX call_tasks_reopened ON newvoice.call_tasks USING btree (company_id, campaign_id) WHERE was_reopened;

CREATE INDEX call_tasks_retry ON newvoice.call_tasks USING btree (campaign_id, next_attempt_at) WHERE (status = 'retry'::text);

CREATE INDEX call_tasks_status ON newvoice.call_tasks USING btree (company_id, campaign_id, status, "position" DESC);

CREATE INDEX calls_campaign ON newvoice.calls USING btree (company_id, campaign_id, started_at DESC, call_id DESC);

CREATE INDEX calls_direction ON newvoice.calls USING btree (company_id, direction, started_at DESC, call_id DESC);

CREATE INDEX calls_live ON newvoice.calls USING btree (company_id) WHERE (status <> 'ended'::text);

CREATE INDEX calls_newest ON newvoice.calls USING btree (company_id, started_at DESC, call_id DESC);

CREATE INDEX calls_outcome ON newvoice.calls USING btree (company_id, outcome, started_at DESC, call_id DESC);

CREATE INDEX calls_person ON newvoice.calls USING btree (company_id, person_id) WHERE (person_id IS NOT NULL);

CREATE INDEX calls_skillbase ON newvoice.calls USING btree (company_id, skillbase_id, started_at DESC, call_id DESC);

CREATE INDEX calls_task ON newvoice.calls USING btree (company_id, task_id) WHERE (task_id IS NOT NULL);

CREATE INDEX campaigns_at_work ON newvoice.campaigns USING btree (status, dialed_by) WHERE (status = ANY (ARRAY['running'::text, 'deleted'::text]));

CREATE INDEX campaigns_newest ON newvoice.campaigns USING btree (company_id, created_at DESC, campaign_id DESC);

CREATE INDEX claim_slots_open ON newvoice.claim_slots USING btree (campaign_id) WHERE (released_at IS NULL);

CREATE INDEX claim_slots_recent ON newvoice.claim_slots USING btree (campaign_id, confirmed_at);

CREATE UNIQUE INDEX claim_slots_task ON newvoice.claim_slots USING btree (task_id) WHERE (released_at IS NULL);

CREATE INDEX cost_calls_started ON newvoice.cost_calls USING btree (company_id, started_at);

CREATE INDEX cost_calls_unpriced ON newvoice.cost_calls USING btree (company_id, started_at) WHERE has_unpriced;

CREATE INDEX cost_calls_usage ON newvoice.cost_calls USING btree (company_id, last_usage_at);

CREATE INDEX cost_rollups_campaign ON newvoice.cost_rollups USING btree (company_id, campaign_id);

CREATE INDEX events_company_type_position ON ONLY newvoice.events USING btree (company_id, event_type, "position" NULLS FIRST);

CREATE INDEX idempotency_keys_age ON newvoice.idempotency_keys USING btree (created_at);

CREATE INDEX price_lists_in_force ON newvoice.price_lists USING btree (company_id, effective_from DESC, "position" DESC);

CREATE INDEX refresh_tokens_family ON newvoice.refresh_tokens USING btree (family);

CREATE INDEX refresh_tokens_user ON newvoice.refresh_tokens USING btree (user_id);

CREATE INDEX skillbases_newest ON newvoice.skillbases USING btree (company_id, created_at DESC, skillbase_id DESC);

CREATE UNIQUE INDEX user_credentials_joined ON newvoice.user_credentials USING btree (email_hash) WHERE (password_hash IS NOT NULL);

CREATE UNIQUE INDEX user_credentials_of_company ON newvoice.user_credentials USING btree (company_id, email_hash);

CREATE INDEX user_credentials_role ON newvoice.user_credentials USING btree (company_id, role);

CREATE INDEX users_newest ON newvoice.users USING btree (company_id, created_at DESC, user_id DESC);

CREATE TRIGGER events_append_only BEFORE DELETE OR UPDATE ON newvoice.events FOR EACH ROW EXECUTE FUNCTION newvoice.refuse_change();

CREATE TRIGGER events_no_truncate BEFORE TRUNCATE ON newvoice.events FOR EACH STATEMENT EXECUTE FUNCTION newvoice.refuse_change();

CREATE TRIGGER log_seal_keys_append_only BEFORE DELETE OR UPDATE ON newvoice.log_seal_keys FOR EACH ROW EXECUTE FUNCTION newvoice.refuse_change();

CREATE TRIGGER log_seal_keys_no_truncate BEFORE TRUNCATE ON newvoice.log_seal_keys FOR EACH STATEMENT EXECUTE FUNCTION newvoice.refuse_change();

CREATE TRIGGER log_seals_append_only BEFORE DELETE OR UPDATE ON newvoice.log_seals FOR EACH ROW EXECUTE FUNCTION newvoice.refuse_change();

CREATE TRIGGER log_seals_no_truncate BEFORE TRUNCATE ON newvoice.log_seals FOR EACH STATEMENT EXECUTE FUNCTION newvoice.refuse_change();

ALTER TABLE newvoice.api_key_credentials ENABLE ROW LEVEL SECURITY;

ALTER TABLE newvoice.api_keys ENABLE ROW LEVEL SECURITY;

ALTER TABLE newvoice.audit_log ENABLE ROW LEVEL SECURITY;

ALTER TABLE newvoice.call_list_imports ENABLE ROW LEVEL SECURITY;

ALTER TABLE newvoice.call_logs ENABLE ROW LEVEL SECURITY;

ALTER TABLE newvoice.call_metrics ENABLE ROW LEVEL SECURITY;

ALTER TABLE newvoice.call_repricings ENABLE ROW LEVEL SECURITY;

ALTER TABLE newvoice.call_rollups ENABLE ROW LEVEL SECURITY;

ALTER TABLE newvoice.call_tasks ENABLE ROW LEVEL SECURITY;

ALTER TABLE newvoice.calls ENABLE ROW LEVEL SECURITY;

ALTER TABLE newvoice.campaign_calls ENABLE ROW LEVEL SECURITY;

ALTER TABLE newvoice.campaign_costs ENABLE ROW LEVEL SECURITY;

ALTER TABLE newvoice.campaign_stats ENABLE ROW LEVEL SECURITY;

ALTER TABLE newvoice.campaigns ENABLE ROW LEVEL SECURITY;

ALTER TABLE newvoice.claim_slots ENABLE ROW LEVEL SECURITY;

ALTER TABLE newvoice.companies ENABLE ROW LEVEL SECURITY;

CREATE POLICY company ON newvoice.api_key_credentials USING (((company_id = ( SELECT newvoice.current_company() AS current_company)) OR ( SELECT newvoice.sees_every_company() AS sees_every_company))) WITH CHECK (((company_id = ( SELECT newvoice.current_company() AS current_company)) OR ( SELECT newvoice.sees_every_company() AS sees_every_company)));

CREATE POLICY company ON newvoice.api_keys USING (((company_id = ( SELECT newvoice.current_company() AS current_company)) OR ( SELECT newvoice.sees_every_company() AS sees_every_company))) WITH CHECK (((company_id = ( SELECT newvoice.current_company() AS current_company)) OR ( SELECT newvoice.sees_every_company() AS sees_every_company)));

CREATE POLICY company ON newvoice.audit_log USING (((company_id = ( SELECT newvoice.current_company() AS current_company)) OR ( SELECT newvoice.sees_every_company() AS sees_every_company))) WITH CHECK (((company_id = ( SELECT newvoice.current_company() AS current_company)) OR ( SELECT newvoice.sees_every_company() AS sees_every_company)));

CREATE POLICY company ON newvoice.call_list_imports USING (((company_id = ( SELECT newvoice.current_company() AS current_company)) OR ( SELECT newvoice.sees_every_company() AS sees_every_company))) WITH CHECK (((company_id = ( SELECT newvoice.current_company() AS current_company)) OR ( SELECT newvoice.sees_every_company() AS sees_every_company)));

CREATE POLICY company ON newvoice.call_logs USING (((company_id = ( SELECT newvoice.current_company() AS current_company)) OR ( SELECT newvoice.sees_every_company() AS sees_every_company))) WITH CHECK (((company_id = ( SELECT newvoice.current_company() AS current_company)) OR ( SELECT newvoice.sees_every_company() AS sees_every_company)));

CREATE POLICY company ON newvoice.call_metrics USING (((company_id = ( SELECT newvoice.current_company() AS current_company)) OR ( SELECT newvoice.sees_every_company() AS sees_every_company))) WITH CHECK (((company_id = ( SELECT newvoice.current_company() AS current_company)) OR ( SELECT newvoice.sees_every_company() AS sees_every_company)));

CREATE POLICY company ON newvoice.call_repricings USING (((company_id = ( SELECT newvoice.current_company() AS current_company)) OR ( SELECT newvoice.sees_every_company() AS sees_every_company))) WITH CHECK (((company_id = ( SELECT newvoice.current_company() AS current_company)) OR ( SELECT newvoice.sees_every_company() AS sees_every_company)));

CREATE POLICY company ON newvoice.call_rollups USING (((company_id = ( SELECT newvoice.current_company() AS current_company)) OR ( SELECT newvoice.sees_every_company() AS sees_every_company))) WITH CHECK (((company_id = ( SELECT newvoice.current_company() AS current_company)) OR ( SELECT newvoice.sees_every_company() AS sees_every_company)));

CREATE POLICY company ON newvoice.call_tasks USING (((company_id = ( SELECT newvoice.current_company() AS current_company)) OR ( SELECT newvoice.sees_every_company() AS sees_every_company))) WITH CHECK (((company_id = ( SELECT newvoice.current_company() AS current_company)) OR ( SELECT newvoice.sees_every_company() AS sees_every_company)));

CREATE POLICY company ON newvoice.calls USING (((company_id = ( SELECT newvoice.current_company() AS current_company)) OR ( SELECT newvoice.sees_every_company() AS sees_every_company))) WITH CHECK (((company_id = ( SELECT newvoice.current_company() AS current_company)) OR ( SELECT newvoice.sees_every_company() AS sees_every_company)));

CREATE POLICY company ON newvoice.campaign_calls USING (((company_id = ( SELECT newvoice.current_company() AS current_company)) OR ( SELECT newvoice.sees_every_company() AS sees_every_company))) WITH CHECK (((company_id = ( SELECT newvoice.current_company() AS current_company)) OR ( SELECT newvoice.sees_every_company() AS sees_every_company)));

CREATE POLICY company ON newvoice.campaign_costs USING (((company_id = ( SELECT newvoice.current_company() AS current_company)) OR ( SELECT newvoice.sees_every_company() AS sees_every_company))) WITH CHECK (((company_id = ( SELECT newvoice.current_company() AS current_company)) OR ( SELECT newvoice.sees_every_company() AS sees_every_company)));

CREATE POLICY company ON newvoice.campaign_stats USING (((company_id = ( SELECT newvoice.current_company() AS current_company)) OR ( SELECT newvoice.sees_every_company() AS sees_every_company))) WITH CHECK (((company_id = ( SELECT newvoice.current_company() AS current_company)) OR ( SELECT newvoice.sees_every_company() AS sees_every_company)));

CREATE POLICY company ON newvoice.campaigns USING (((company_id = ( SELECT newvoice.current_company() AS current_company)) OR ( SELECT newvoice.sees_every_company() AS sees_every_company))) WITH CHECK (((company_id = ( SELECT newvoice.current_company() AS current_company)) OR ( SELECT newvoice.sees_every_company() AS sees_every_company)));

CREATE POLICY company ON newvoice.claim_slots USING (((company_id = ( SELECT newvoice.current_company() AS current_company)) OR ( SELECT newvoice.sees_every_company() AS sees_every_company))) WITH CHECK (((company_id = ( SELECT newvoice.current_company() AS current_company)) OR ( SELECT newvoice.sees_every_company() AS sees_every_company)));

CREATE POLICY company ON newvoice.companies USING (((company_id = ( SELECT newvoice.current_company() AS current_company)) OR ( SELECT newvoice.sees_every_company() AS sees_every_company))) WITH CHECK (((company_id = ( SELECT newvoice.current_company() AS current_company)) OR ( SELECT newvoice.sees_every_company() AS sees_every_company)));

CREATE POLICY company ON newvoice.company_keys USING (((company_id = ( SELECT newvoice.current_company() AS current_company)) OR ( SELECT newvoice.sees_every_company() AS sees_every_company))) WITH CHECK (((company_id = ( SELECT newvoice.current_company() AS current_company)) OR ( SELECT newvoice.sees_every_company() AS sees_every_company)));

CREATE POLICY company ON newvoice.cost_calls USING (((company_id = ( SELECT newvoice.current_company() AS current_company)) OR ( SELECT newvoice.sees_every_company() AS sees_every_company))) WITH CHECK (((company_id = ( SELECT newvoice.current_company() AS current_company)) OR ( SELECT newvoice.sees_every_company() AS sees_every_company)));

CREATE POLICY company ON newvoice.cost_price_lists USING (((company_id = ( SELECT newvoice.current_company() AS current_company)) OR ( SELECT newvoice.sees_every_company() AS sees_every_company))) WITH CHECK (((company_id = ( SELECT newvoice.current_company() AS current_company)) OR ( SELECT newvoice.sees_every_company() AS sees_every_company)));

CREATE POLICY company ON newvoice.cost_rollups USING (((company_id = ( SELECT newvoice.current_company() AS current_company)) OR ( SELECT newvoice.sees_every_company() AS sees_every_company))) WITH CHECK (((company_id = ( SELECT newvoice.current_company() AS current_company)) OR ( SELECT newvoice.sees_every_company() AS sees_every_company)));

CREATE POLICY company ON newvoice.events USING (((company_id = ( SELECT newvoice.current_company() AS current_company)) OR ( SELECT newvoice.sees_every_company() AS sees_every_company))) WITH CHECK (((company_id = ( SELECT newvoice.current_company() AS current_company)) OR ( SELECT newvoice.sees_every_company() AS sees_every_company)));

CREATE POLICY company ON newvoice.idempotency_keys USING (((company_id = ( SELECT newvoice.current_company() AS current_company)) OR ( SELECT newvoice.sees_every_company() AS sees_every_company))) WITH CHECK (((company_id = ( SELECT newvoice.current_company() AS current_company)) OR ( SELECT newvoice.sees_every_company() AS sees_every_company)));

CREATE POLICY company ON newvoice.latency_rollups USING (((company_id = ( SELECT newvoice.current_company() AS current_company)) OR ( SELECT newvoice.sees_every_company() AS sees_every_company))) WITH CHECK (((company_id = ( SELECT newvoice.current_company() AS current_company)) OR ( SELECT newvoice.sees_every_company() AS sees_every_company)));

CREATE POLICY company ON newvoice.person_keys USING (((company_id = ( SELECT newvoice.current_company() AS current_company)) OR ( SELECT newvoice.sees_every_company() AS sees_every_company))) WITH CHECK (((company_id = ( SELECT newvoice.current_company() AS current_company)) OR ( SELECT newvoice.sees_every_company() AS sees_every_company)));

CREATE POLICY company ON newvoice.price_lists USING (((company_id = ( SELECT newvoice.current_company() AS current_company)) OR ( SELECT newvoice.sees_every_company() AS sees_every_company))) WITH CHECK (((company_id = ( SELECT newvoice.current_company() AS current_company)) OR ( SELECT newvoice.sees_every_company() AS sees_every_company)));

CREATE POLICY company ON newvoice.refresh_tokens USING (((company_id = ( SELECT newvoice.current_company() AS current_company)) OR ( SELECT newvoice.sees_every_company() AS sees_every_company))) WITH CHECK (((company_id = ( SELECT newvoice.current_company() AS current_company)) OR ( SELECT newvoice.sees_every_company() AS sees_every_company)));

CREATE POLICY company ON newvoice.skillbase_versions USING (((company_id = ( SELECT newvoice.current_company() AS current_company)) OR ( SELECT newvoice.sees_every_company() AS sees_every_company))) WITH CHECK (((company_id = ( SELECT newvoice.current_company() AS current_company)) OR ( SELECT newvoice.sees_every_company() AS sees_every_company)));

CREATE POLICY company ON newvoice.skillbases USING (((company_id = ( SELECT newvoice.current_company() AS current_company)) OR ( SELECT newvoice.sees_every_company() AS sees_every_company))) WITH CHECK (((company_id = ( SELECT newvoice.current_company() AS current_company)) OR ( SELECT newvoice.sees_every_company() AS sees_every_company)));

CREATE POLICY company ON newvoice.streams USING (((company_id = ( SELECT newvoice.current_company() AS current_company)) OR ( SELECT newvoice.sees_every_company() AS sees_every_company))) WITH CHECK (((company_id = ( SELECT newvoice.current_company() AS current_company)) OR ( SELECT newvoice.sees_every_company() AS sees_every_company)));

CREATE POLICY company ON newvoice.user_credentials USING (((company_id = ( SELECT newvoice.current_company() AS current_company)) OR ( SELECT newvoice.sees_every_company() AS sees_every_company))) WITH CHECK (((company_id = ( SELECT newvoice.current_company() AS current_company)) OR ( SELECT newvoice.sees_every_company() AS sees_every_company)));

CREATE POLICY company ON newvoice.users USING (((company_id = ( SELECT newvoice.current_company() AS current_company)) OR ( SELECT newvoice.sees_every_company() AS sees_every_company))) WITH CHECK (((company_id = ( SELECT newvoice.current_company() AS current_company)) OR ( SELECT newvoice.sees_every_company() AS sees_every_company)));

CREATE POLICY company ON newvoice.worker_failures USING (((company_id = ( SELECT newvoice.current_company() AS current_company)) OR ( SELECT newvoice.sees_every_company() AS sees_every_company))) WITH CHECK (((company_id = ( SELECT newvoice.current_company() AS current_company)) OR ( SELECT newvoice.sees_every_company() AS sees_every_company)));

ALTER TABLE newvoice.company_keys ENABLE ROW LEVEL SECURITY;

ALTER TABLE newvoice.cost_calls ENABLE ROW LEVEL SECURITY;

ALTER TABLE newvoice.cost_price_lists ENABLE ROW LEVEL SECURITY;

ALTER TABLE newvoice.cost_rollups ENABLE ROW LEVEL SECURITY;

ALTER TABLE newvoice.events ENABLE ROW LEVEL SECURITY;

ALTER TABLE newvoice.idempotency_keys ENABLE ROW LEVEL SECURITY;

ALTER TABLE newvoice.latency_rollups ENABLE ROW LEVEL SECURITY;

ALTER TABLE newvoice.person_keys ENABLE ROW LEVEL SECURITY;

ALTER TABLE newvoice.price_lists ENABLE ROW LEVEL SECURITY;

ALTER TABLE newvoice.refresh_tokens ENABLE ROW LEVEL SECURITY;

ALTER TABLE newvoice.skillbase_versions ENABLE ROW LEVEL SECURITY;

ALTER TABLE newvoice.skillbases ENABLE ROW LEVEL SECURITY;

ALTER TABLE newvoice.streams ENABLE ROW LEVEL SECURITY;

ALTER TABLE newvoice.user_credentials ENABLE ROW LEVEL SECURITY;

ALTER TABLE newvoice.users ENABLE ROW LEVEL SECURITY;

ALTER TABLE newvoice.worker_failures ENABLE ROW LEVEL SECURITY;
