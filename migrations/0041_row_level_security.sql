-- Who may touch what. The API reads as `app`, which sees one company at a time: the one that its transaction has named in
-- newvoice.company_id, and nothing without. What is everybody's business has service roles of its own: `log` appends to the log and
-- reads it, `work` runs projections and the dialer, `identity` checks credentials. None of them owns anything. The roles are made by
-- the platform when it starts (eventstore/src/database/roles.rs), one set per database and schema.

-- The name of a role of this installation: <schema>_<role>_<hash of the database's name>.
create function service_role(p_role text) returns text language sql stable as
$$ select current_schema() || '_' || p_role || '_' || left(md5(current_database()), 8) $$;

-- The company that this transaction is confined to, if it has named one.
create function current_company() returns uuid language sql stable parallel safe as
$$ select nullif(current_setting('newvoice.company_id', true), '')::uuid $$;

-- Whether the present role is one of the service roles, or the owner of the log. No search path is consulted.
do $do$
begin
    execute format($create$
        create function sees_every_company() returns boolean language sql stable parallel safe as
        $$ select current_user in (%1$L || '_log_' || left(md5(current_database()), 8), %1$L || '_work_' || left(md5(current_database()), 8),
                                   %1$L || '_identity_' || left(md5(current_database()), 8))
               or pg_has_role(current_user, (select c.relowner from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
                                              where n.nspname = %1$L and c.relname = 'log_head'), 'usage') $$
        $create$, current_schema());
end $do$;

-- The tables and what each role may do with them. Read models are whatever `work` writes and `app` only reads.
create table table_access (
    table_name text collate "C" not null,
    role       text not null,
    privileges text not null,
    primary key (table_name, role)
);
insert into table_access
select t, r.role, r.privileges
  from unnest(array['companies', 'users', 'api_keys', 'skillbases', 'skillbase_versions', 'campaigns', 'call_tasks', 'campaign_stats',
                    'call_list_imports', 'calls', 'call_logs', 'call_metrics', 'call_rollups', 'latency_rollups', 'campaign_calls', 'price_lists',
                    'cost_price_lists', 'cost_calls', 'call_repricings', 'cost_rollups', 'campaign_costs']) t,
       (values ('app', 'select'), ('work', 'select, insert, update, delete')) r(role, privileges);
insert into table_access values
    ('events', 'log', 'select, insert'), ('events', 'app', 'select'), ('events', 'work', 'select'),
    ('streams', 'log', 'select, insert, update'),
    ('log_head', 'log', 'select, update'), ('log_head', 'work', 'select'),
    ('log_seals', 'log', 'select, insert'),
    ('detached_partitions', 'log', 'select'),
    ('event_partitions', 'log', 'select'), ('event_partitions', 'work', 'select'),
    ('company_keys', 'log', 'select, insert'),
    ('person_keys', 'log', 'select, insert, delete'),
    ('erasures', 'log', 'select, update'),
    ('projection_checkpoints', 'work', 'select, insert, update, delete'), ('projection_checkpoints', 'app', 'select'),
    ('projection_rebuilds', 'work', 'select, insert, update, delete'),
    ('claim_slots', 'work', 'select, insert, update, delete'),
    ('idempotency_keys', 'app', 'select, insert, update, delete'), ('idempotency_keys', 'work', 'select, delete'),
    ('user_credentials', 'identity', 'select, insert, update, delete'),
    ('api_key_credentials', 'identity', 'select, insert, update, delete'),
    ('signing_keys', 'identity', 'select, insert, update, delete'),
    ('auth_tickets', 'identity', 'select, insert, update, delete');

-- Confines a table to companies, if its rows belong to companies, and lets the roles do what `table_access` says. A rebuilt table
-- stands in for the one whose name it will have.
create function protect_table(p_table text) returns void language plpgsql as $$
declare a record;
begin
    if exists (select from pg_attribute where attrelid = to_regclass(quote_ident(p_table)) and attname = 'company_id' and not attisdropped) then
        execute format('alter table %I enable row level security', p_table);
        execute format('alter table %I force row level security', p_table);
        execute format('drop policy if exists company on %I', p_table);
        execute format('create policy company on %I using (company_id = (select current_company()) or (select sees_every_company()))
                                                    with check (company_id = (select current_company()) or (select sees_every_company()))', p_table);
    end if;
    for a in select * from table_access where table_name = regexp_replace(p_table, '__(next|previous)$', '') loop
        if to_regrole(quote_ident(service_role(a.role))) is not null then
            execute format('grant %s on %I to %I', a.privileges, p_table, service_role(a.role));
        end if;
    end loop;
end $$;

-- The same for all of them.
create function protect_tables() returns void language plpgsql as $$
declare t text; r text;
begin
    foreach r in array array['app', 'identity', 'log', 'work'] loop
        if to_regrole(quote_ident(service_role(r))) is not null then
            execute format('grant usage on schema %I to %I', current_schema(), service_role(r));
        end if;
    end loop;
    for t in select relname from pg_class where relnamespace = current_schema()::regnamespace and relkind in ('r', 'p', 'v') and relname <> '_sqlx_migrations' loop
        perform protect_table(t);
    end loop;
end $$;

-- A rebuilt table is protected before anything is in it.
create or replace function rebuild_create(p_tables text[]) returns void language plpgsql as $$
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

-- So is a partition of the log, which nobody but the owner reads by its own name.
create or replace function ensure_event_partitions(p_size bigint, p_ahead bigint) returns integer language plpgsql as $$
declare
    v_from bigint;
    v_name text;
    v_made integer := 0;
begin
    perform pg_advisory_xact_lock(hashtextextended(current_schema() || '.event_partitions', 0));
    loop
        select coalesce(max((regexp_match(pg_get_expr(c.relpartbound, c.oid), $r$TO \('?(\d+)'?\)$r$))[1]::bigint), 1)
          into v_from
          from pg_inherits i join pg_class c on c.oid = i.inhrelid
         where i.inhparent = 'events'::regclass;
        exit when v_from > (select position from log_head) + p_ahead;
        v_name := 'events_from_' || v_from;
        execute format('create table %I (like events including defaults including constraints)', v_name);
        execute format('create unique index %I on %I (stream, version)', v_name || '_stream', v_name);
        execute format('create unique index %I on %I (event_id)', v_name || '_event_id', v_name);
        perform protect_table(v_name);
        execute format('alter table events attach partition %I for values from (%s) to (%s)', v_name, v_from, v_from + p_size);
        execute format('create trigger events_no_truncate before truncate on %I for each statement execute function refuse_change()', v_name);
        v_made := v_made + 1;
    end loop;
    return v_made;
end $$;

-- It shows the catalogue to whoever asks, with no rights but theirs.
alter view event_partitions set (security_invoker = true);

select protect_tables();
