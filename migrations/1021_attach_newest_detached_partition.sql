-- Attaches the newest of the detached partitions again.
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
