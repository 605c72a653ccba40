-- A company's events of one type in log order. What asks for all types goes through them; see `company_page` in eventstore/src/read.rs.
-- `nulls first` changes nothing for a column that is never null, but no other index gives that order: who asks for it cannot be given a walk
-- along the primary key that filters the log of all companies.
drop index events_company_position;
create index events_company_type_position on events (company_id, event_type, position nulls first);

-- The version that a stream had at a position of the log; 0 before its first event. Halves the stream. Events that are not in the log any
-- more are in its oldest part, which was detached.
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
