-- A rebuild says how fast it is, and the tables from before it can be put back.
alter table projection_rebuilds
    -- When and where the process that is at work began.
    add column began_at       timestamptz,
    add column began_position bigint,
    -- Whether it begins with the tables from before the last rebuild instead of empty ones.
    add column from_previous  boolean not null default false;
alter table projection_checkpoints
    -- How far the tables from before the last rebuild are, and of which version; null when there are none.
    add column previous_position bigint,
    add column previous_version  integer;

-- Gives a table and its indexes other names: what follows the plain name is '', '__next' or '__previous'.
create function rebuild_rename(p_table text, p_from text, p_to text) returns void language plpgsql as $$
declare i text;
begin
    for i in select c.relname from pg_index x join pg_class c on c.oid = x.indexrelid where x.indrelid = to_regclass(quote_ident(p_table || p_from)) loop
        -- Names have 63 bytes at most.
        execute format('alter index %I rename to %I', i, left(regexp_replace(i, p_from || '$', ''), 53) || p_to);
    end loop;
    execute format('alter table %I rename to %I', p_table || p_from, p_table || p_to);
end $$;

-- Makes empty next tables of the shape of the live ones, with indexes of the same names.
create or replace function rebuild_create(p_tables text[]) returns void language plpgsql as $$
declare t text; i record;
begin
    foreach t in array p_tables loop
        execute format('drop table if exists %I cascade', t || '__next');
        execute format('create table %I (like %I including all excluding indexes)', t || '__next', t);
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

-- Keeps autovacuum off the live and the next tables until the transaction ends; readers and writers do not notice.
create function rebuild_keep_vacuum_out(p_tables text[]) returns void language plpgsql as $$
declare t text;
begin
    foreach t in array p_tables loop
        -- By its full name: this session sees the next table under the live one's.
        execute format('lock table %1$I.%2$I, %1$I.%3$I in share update exclusive mode', current_schema(), t, t || '__next');
    end loop;
end $$;

-- Puts the next tables in the live ones' place, and those where one can go back to them.
create or replace function rebuild_swap(p_tables text[]) returns void language plpgsql as $$
declare t text;
begin
    foreach t in array p_tables loop
        execute format('drop table if exists %I cascade', t || '__previous');
        perform rebuild_rename(t, '', '__previous');
        perform rebuild_rename(t, '__next', '');
    end loop;
end $$;

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

drop function rebuild_differences(text, bigint);
-- Rows that are only in the live table (side 'live') or only in the next one (side 'rebuilt'), every one.
create function rebuild_differences(p_table text) returns table (side text, content jsonb) language plpgsql as $$
begin
    return query execute format(
        '(select ''live'', to_jsonb(d) from (select * from %1$I.%2$I except all select * from %1$I.%3$I) d)
         union all
         (select ''rebuilt'', to_jsonb(d) from (select * from %1$I.%3$I except all select * from %1$I.%2$I) d)',
        current_schema(), p_table, p_table || '__next');
end $$;

-- What was left of earlier rebuilds cannot be gone back to, since nobody noted how far it is; and their indexes get the names that
-- they would have had without.
do $$
declare t text; i text;
begin
    for t in select relname from pg_class where relnamespace = current_schema()::regnamespace and relkind = 'r' and relname ~ '__(next|previous)$' loop
        execute format('drop table %I cascade', t);
    end loop;
    for i in select relname from pg_class where relnamespace = current_schema()::regnamespace and relkind = 'i' and relname ~ '__next_' loop
        execute format('alter index %I rename to %I', i, regexp_replace(i, '__next_', '_'));
    end loop;
    update projection_rebuilds set position = null;
end $$;
