-- Keeps autovacuum from the live and the next tables until the transaction ends; readers and writers are not delayed.
create function rebuild_keep_vacuum_out(p_tables text[]) returns void language plpgsql as $$
declare t text;
begin
    foreach t in array p_tables loop
        -- By its full name: this session sees the next table under the live one's.
        execute format('lock table %1$I.%2$I, %1$I.%3$I in share update exclusive mode', current_schema(), t, t || '__next');
    end loop;
end $$;
