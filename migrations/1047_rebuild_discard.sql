-- Drops the next tables.
create function rebuild_discard(p_tables text[]) returns void language plpgsql as $$
declare t text;
begin
    foreach t in array p_tables loop
        execute format('drop table if exists %I cascade', t || '__next');
    end loop;
end $$;
