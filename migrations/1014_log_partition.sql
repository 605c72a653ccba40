-- The end of the partition of the log's next event, and the greatest event id in the partitions before it.
create function log_partition(p_position bigint, out o_end bigint, out o_closed_event_id uuid) language plpgsql as $$
declare
    v_from bigint;
begin
    select b.first, b.beyond into v_from, o_end from event_partitions b where p_position + 1 >= b.first and p_position + 1 < b.beyond;
    select e.event_id into o_closed_event_id from events e where e.position < v_from order by e.event_id desc limit 1;
    o_end := coalesce(o_end, 0);
    o_closed_event_id := coalesce(o_closed_event_id, '00000000-0000-0000-0000-000000000000');
end $$;
