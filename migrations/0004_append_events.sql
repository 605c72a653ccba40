-- Appends the events of many commands in one step. Each command names the streams it writes and what version it expects
-- of each; a command whose expectation fails is left out, the others go in. A stream occurs at most once in a call.
--
-- p_commands, p_streams, p_expected, p_counts: one element per stream that a command writes or only expects (count 0).
--   p_expected: version the stream must have (0: no event yet), or -1 for any.
-- The other arrays: one element per event, in the order of the streams above.
--   p_digests: sha256 of the event's canonical content, see ARCHITECTURE.md.
--
-- Returns one row per command: o_position is the position of its last event (of the log's last, when it has none), or
-- null when it lost; then o_stream, o_expected and o_actual tell the first expectation that failed.
create function append_events(
    p_commands  integer[], p_streams text[], p_expected bigint[], p_counts integer[], p_companies uuid[],
    p_event_ids uuid[], p_types text[], p_schemas smallint[], p_payloads jsonb[], p_metadata jsonb[],
    p_occurred  timestamptz[], p_digests bytea[]
) returns table (o_command integer, o_position bigint, o_recorded_at timestamptz, o_stream text, o_expected bigint, o_actual bigint)
language plpgsql as $$
declare
    v_position  bigint;
    v_hash      bytea;
    v_at        timestamptz;
    v_at_bytes  bytea;
    v_lost      integer[];
    v_hashes    bytea[] := '{}';
    v_versions  bigint[] := '{}';
    v_winners   integer[] := '{}';
    v_owners    integer[] := '{}';
    v_next      bigint;
    e           record;
begin
    -- From here to the commit we are alone.
    select h.position, h.hash, greatest(clock_timestamp(), h.recorded_at) into v_position, v_hash, v_at from log_head h for update;
    v_at_bytes := int8send((extract(epoch from v_at) * 1000000)::bigint);

    -- Who expected a version that is not there, or a stream that is another company's?
    return query
        select distinct on (w.command) w.command, null::bigint, v_at, w.stream, w.expected, coalesce(s.version, 0)
          from unnest(p_commands, p_streams, p_expected, p_companies) with ordinality w(command, stream, expected, company_id, n)
          left join streams s on s.stream = w.stream
         where (w.expected >= 0 and w.expected <> coalesce(s.version, 0)) or s.company_id <> w.company_id
         order by w.command, w.n;
    if found then
        select array_agg(distinct w.command) into v_lost
          from unnest(p_commands, p_streams, p_expected, p_companies) w(command, stream, expected, company_id)
          left join streams s on s.stream = w.stream
         where (w.expected >= 0 and w.expected <> coalesce(s.version, 0)) or s.company_id <> w.company_id;
    else
        v_lost := '{}';
    end if;

    -- The winners' streams go forward; each event gets its version, and the chain its next link.
    v_next := v_position;
    for e in
        with writes as (
            select w.*, sum(w.count) over (order by w.n) - w.count as before
              from unnest(p_commands, p_streams, p_counts, p_companies) with ordinality w(command, stream, count, company_id, n)
        ), moved as (
            insert into streams as s (stream, company_id, version)
            select w.stream, w.company_id, w.count from writes w where w.count > 0 and not w.command = any (v_lost)
            on conflict (stream) do update set version = s.version + excluded.version
            returning s.stream, s.version
        )
        select p_digests[i] as digest, m.version - w.count + i - w.before as version, i::integer as i, w.n::integer as owner
          from moved m
          join writes w on w.stream = m.stream
          cross join lateral generate_series(w.before + 1, w.before + w.count) i
         order by i
    loop
        v_next := v_next + 1;
        v_hash := sha256(v_hash || e.digest || int8send(v_next) || int8send(e.version) || v_at_bytes);
        v_hashes := v_hashes || v_hash;
        v_versions := v_versions || e.version;
        v_winners := v_winners || e.i;
        v_owners := v_owners || e.owner;
    end loop;

    if v_next > v_position then
        insert into events (position, stream, version, event_id, event_type, schema_version, company_id, payload, metadata, occurred_at, recorded_at, hash)
        select v_position + w.n, p_streams[w.owner], w.version, p_event_ids[w.i], p_types[w.i], p_schemas[w.i], p_companies[w.owner],
               p_payloads[w.i], p_metadata[w.i], p_occurred[w.i], v_at, w.hash
          from unnest(v_winners, v_owners, v_versions, v_hashes) with ordinality w(i, owner, version, hash, n);
        update log_head set position = v_next, hash = v_hash, recorded_at = v_at;
    end if;

    return query
        select c.command, coalesce(max(v_position + p.n), v_next), v_at, null::text, null::bigint, null::bigint
          from (select distinct command from unnest(p_commands) command) c
          left join unnest(v_owners) with ordinality p(owner, n) on p_commands[p.owner] = c.command
         where not c.command = any (v_lost)
         group by c.command;
end $$;
