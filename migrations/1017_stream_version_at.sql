-- The version that a stream had at a position of the log; 0 before its first event. A binary search over the stream. Events that are not in
-- the log any more are in its oldest part, which was detached.
create function stream_version_at(p_stream text, p_position bigint) returns bigint language plpgsql stable as $$
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
