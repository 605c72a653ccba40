-- For the appender's own statement (eventstore/src/append/predicted.rs): ends the statement, and so reverts it, if the log is not as predicted.
create function require_as_predicted(p_holds boolean) returns boolean language plpgsql as $$
begin
    if p_holds then return true; end if;
    raise exception 'the log is not as predicted' using errcode = 'NV001';
end $$;
