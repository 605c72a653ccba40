-- Lets this session see the live tables again.
create function rebuild_undirect(p_tables text[]) returns void language plpgsql as $$
declare t text;
begin
    foreach t in array p_tables loop
        execute format('drop view if exists pg_temp.%I', t);
    end loop;
end $$;
