-- Puts the next tables in the place of the live ones, which stay as the previous ones.
create function rebuild_swap(p_tables text[]) returns void language plpgsql as $$
declare t text;
begin
    foreach t in array p_tables loop
        execute format('drop table if exists %I cascade', t || '__previous');
        perform rebuild_rename(t, '', '__previous');
        perform rebuild_rename(t, '__next', '');
    end loop;
end $$;
