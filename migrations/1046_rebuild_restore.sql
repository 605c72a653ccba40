-- Makes the tables from before the last rebuild the next ones.
create function rebuild_restore(p_tables text[]) returns void language plpgsql as $$
declare t text;
begin
    foreach t in array p_tables loop
        if to_regclass(quote_ident(t || '__previous')) is null then
            raise exception using errcode = 'NV003', message = format('there is no table of %s from before', t);
        end if;
        if exists (select from (select * from pg_attribute where attrelid in (to_regclass(quote_ident(t)), to_regclass(quote_ident(t || '__previous')))
                                   and attnum > 0 and not attisdropped) a
                    group by attname, atttypid having count(*) = 1) then
            raise exception using errcode = 'NV003', message = format('the table of %s from before has other columns', t);
        end if;
        execute format('drop table if exists %I cascade', t || '__next');
        perform rebuild_rename(t, '__previous', '__next');
    end loop;
end $$;
