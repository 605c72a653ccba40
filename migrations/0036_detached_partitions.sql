-- Parts of the log that were taken out of it: their tables stay as they were, to be dumped, moved and dropped, or put back.
create table detached_partitions (
    name        text        primary key,
    -- Positions from `first` to before `beyond`.
    first       bigint      not null,
    beyond      bigint      not null,
    detached_at timestamptz not null default clock_timestamp()
);

-- Takes the oldest partition out of the log. Its end must be sealed, so that the rest can be verified without it, and every
-- projection must have read it.
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
    -- Appends and readers wait for this lock, and it does not wait long for them.
    set local lock_timeout = '2s';
    execute format('alter table events detach partition %I', v.name);
    execute format('create trigger events_append_only before update or delete on %I for each row execute function refuse_change()', v.name);
    insert into detached_partitions (name, first, beyond) values (v.name, v.first, v.beyond);
    return v.name;
end $$;

-- Puts the newest of the detached partitions back.
create function attach_newest_detached_partition() returns text language plpgsql as $$
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
