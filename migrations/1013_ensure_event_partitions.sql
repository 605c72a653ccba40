-- Creates partitions of p_size positions each until p_ahead positions beyond the end of the log have a place; returns their number.
-- Attaching a finished table takes a lock for which neither readers nor appends wait.
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
        perform protect_table(v_name);
        execute format('alter table events attach partition %I for values from (%s) to (%s)', v_name, v_from, v_from + p_size);
        execute format('create trigger events_no_truncate before truncate on %I for each statement execute function refuse_change()', v_name);
        v_made := v_made + 1;
    end loop;
    return v_made;
end $$;
