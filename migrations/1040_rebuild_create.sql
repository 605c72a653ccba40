-- Creates empty next tables of the shape of the live ones, with indexes of the same names. A table is protected before it has rows.
create function rebuild_create(p_tables text[]) returns void language plpgsql as $$
declare t text; i record;
begin
    foreach t in array p_tables loop
        execute format('drop table if exists %I cascade', t || '__next');
        execute format('create table %I (like %I including all excluding indexes)', t || '__next', t);
        perform protect_table(t || '__next');
        for i in select c.relname, x.indisprimary, pg_get_indexdef(x.indexrelid) as definition
                   from pg_index x join pg_class c on c.oid = x.indexrelid where x.indrelid = to_regclass(quote_ident(t)) loop
            execute regexp_replace(i.definition, '^(CREATE (?:UNIQUE )?INDEX) \S+ ON (?:ONLY )?\S+ USING',
                                   format('\1 %I ON %I USING', left(i.relname, 53) || '__next', t || '__next'));
            if i.indisprimary then
                execute format('alter table %I add primary key using index %I', t || '__next', left(i.relname, 53) || '__next');
            end if;
        end loop;
    end loop;
end $$;
