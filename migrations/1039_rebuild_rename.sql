-- Gives a table and its indexes other names: the plain name is followed by '', '__next' or '__previous'.
create function rebuild_rename(p_table text, p_from text, p_to text) returns void language plpgsql as $$
declare i text;
begin
    for i in select c.relname from pg_index x join pg_class c on c.oid = x.indexrelid where x.indrelid = to_regclass(quote_ident(p_table || p_from)) loop
        -- Names have 63 bytes at most.
        execute format('alter index %I rename to %I', i, left(regexp_replace(i, p_from || '$', ''), 53) || p_to);
    end loop;
    execute format('alter table %I rename to %I', p_table || p_from, p_table || p_to);
end $$;
