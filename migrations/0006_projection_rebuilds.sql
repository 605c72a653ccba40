-- Rebuilds that are asked for or under way. The next tables stand beside the live ones as <table>__next until they are swapped;
-- the ones before them stay as <table>__previous until the next rebuild.
create table projection_rebuilds (
    name         text collate "C" primary key,
    version      integer     not null,
    -- Last position that is in the next tables; null until they are made.
    position     bigint,
    -- Whether the tables are to be swapped in the end; a comparison's never are, and nobody goes on with one that was cut off.
    swap         boolean     not null default true,
    requested_at timestamptz not null default now(),
    error        text,
    holder       uuid,
    token        bigint      not null default 0,
    lease_until  timestamptz not null default '-infinity'
);

-- Makes empty next tables of the shape of the live ones.
create function rebuild_create(p_tables text[]) returns void language plpgsql as $$
declare t text;
begin
    foreach t in array p_tables loop
        execute format('drop table if exists %I cascade', t || '__next');
        execute format('create table %I (like %I including all)', t || '__next', t);
    end loop;
end $$;

-- Lets this session see the next tables under the live ones' names: temporary views come first in every search path, and
-- simple views can be written through. So the projection's own statements fill the next tables, unchanged.
create function rebuild_redirect(p_tables text[]) returns void language plpgsql as $$
declare t text;
begin
    foreach t in array p_tables loop
        execute format('create or replace temporary view %I as select * from %I.%I', t, current_schema(), t || '__next');
    end loop;
end $$;

create function rebuild_undirect(p_tables text[]) returns void language plpgsql as $$
declare t text;
begin
    foreach t in array p_tables loop
        execute format('drop view if exists pg_temp.%I', t);
    end loop;
end $$;

-- Puts the next tables in the live ones' place.
create function rebuild_swap(p_tables text[]) returns void language plpgsql as $$
declare t text;
begin
    foreach t in array p_tables loop
        execute format('drop table if exists %I cascade', t || '__previous');
        execute format('alter table %I rename to %I', t, t || '__previous');
        execute format('alter table %I rename to %I', t || '__next', t);
    end loop;
end $$;

create function rebuild_discard(p_tables text[]) returns void language plpgsql as $$
declare t text;
begin
    foreach t in array p_tables loop
        execute format('drop table if exists %I cascade', t || '__next');
    end loop;
end $$;

-- Rows that are only in the live table (side 'live') or only in the next one (side 'rebuilt').
create function rebuild_differences(p_table text, p_limit bigint) returns table (side text, content jsonb) language plpgsql as $$
begin
    return query execute format(
        '(select ''live'', to_jsonb(d) from (select * from %1$I.%2$I except all select * from %1$I.%3$I) d limit $1)
         union all
         (select ''rebuilt'', to_jsonb(d) from (select * from %1$I.%3$I except all select * from %1$I.%2$I) d limit $1)',
        current_schema(), p_table, p_table || '__next') using p_limit;
end $$;
