-- Detaches the oldest partition from the log. Its end must be sealed, so that the rest can be verified without it, and every projection
-- and every worker that follows the log must have read it.
create function detach_oldest_partition() returns text language plpgsql as $$
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
