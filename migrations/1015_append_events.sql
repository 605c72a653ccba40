-- Appends all events or none.
--
-- One element per stream, each stream once:
--   p_streams; p_companies, the writers; p_expected, the version that it must have (0: no event yet; -1: any).
-- One element per event, in log order:
--   p_slots, index of its stream; p_offsets, 1 for the stream's first of these events, 2 for its second, …;
--   p_event_ids, p_types, p_schemas, p_payloads, p_metadata, p_occurred; p_digests, 32 bytes each, see ARCHITECTURE.md.
-- p_least_event_id: the smallest of p_event_ids.
-- p_again: an answer was lost; the log may have the events already.
-- p_insert: false when the caller inserts the rows itself before the commit.
--
-- o_position: of the log's last event before these; they follow in order. Null when nothing was appended because a stream is
--   not as expected or the log has one of the event ids; then o_found, o_owners (per stream) and o_stored show what the log has.
-- o_found: the previous versions of the streams. o_hashes: per event, when the caller inserts. o_last_hash: of the last event.
-- o_clock: the database's clock, for a caller that predicts its next append.
-- o_stored: events that are in the log with one of the ids: {event_id, stream, position, recorded_at_us}.
create function append_events(
    p_streams text[], p_companies uuid[], p_expected bigint[],
    p_slots integer[], p_offsets integer[], p_event_ids uuid[], p_types text[], p_schemas smallint[], p_payloads text[], p_metadata text[],
    p_occurred timestamptz[], p_digests bytea, p_least_event_id uuid, p_again boolean, p_insert boolean,
    out o_position bigint, out o_recorded_at timestamptz, out o_found bigint[], out o_owners uuid[], out o_hashes bytea[], out o_last_hash bytea, out o_clock timestamptz,
    out o_stored jsonb
) language plpgsql as $$
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
