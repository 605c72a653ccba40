-- Fills every table of the platform, so that its statements have plans as on a long log with many companies. Tables are filled by the types
-- and names of their columns: a new table or column needs nothing here, unless its values are of a kind of their own.
--
-- Rows belong to objects; object n belongs to company 0 in six of ten cases, else to one of the others, to the first of them
-- more often. Company 299 has one object with two events. What a company has few of, as users and keys, is not of company 0 that often. `u('campaign', …)` and so on are the same ids in every table.
set session_replication_role = replica;

-- A log of several partitions.
do $$
declare t text;
begin
    for t in select inhrelid::regclass::text from pg_inherits where inhparent = 'events'::regclass loop execute 'drop table ' || t; end loop;
    perform ensure_event_partitions(150000, 450000);
end $$;

create schema filling;
create function filling.u(p_kind text, p_n text) returns uuid language sql immutable as $$ select md5(p_kind || p_n)::uuid $$;
create function filling.company_number(n bigint) returns bigint language sql immutable as
$$ select case when n = 7 then 299 when n % 10 < 6 or n between 98000 and 102999 then 0 else 1 + floor(298 * power((n * 7919 % 1009) / 1009.0, 3))::bigint end $$;
create function filling.company(n bigint) returns uuid language sql immutable as $$ select filling.u('company', filling.company_number(n)::text) $$;
create function filling.owner(n bigint) returns uuid language sql immutable as
$$ select filling.u('company', (case when n = 7 then 299 when n % 20 = 0 then 0 else n % 299 end)::text) $$;
create function filling.campaign(n bigint) returns uuid language sql immutable as
$$ select filling.u('campaign', filling.company_number(n) || '-' || n % 400 / 10) $$;

do $$
declare
    t record;
    v_rows bigint;
    -- Rows of one object.
    v_each bigint;
    v_columns text;
    v_values text;
begin
    for t in select relname::text as name, oid from pg_class
              where relnamespace = 'newvoice'::regnamespace and relkind in ('r', 'p') and not relispartition
                and relname <> all (array['_sqlx_migrations', 'table_access', 'log_head', 'erasures', 'installation', 'signing_keys', 'detached_partitions',
                                          'projection_checkpoints', 'projection_rebuilds'])
    loop
        v_rows := case when t.name = 'events' then 400000
                       when t.name = 'streams' then 200000
                       when t.name in ('call_tasks', 'calls', 'call_logs', 'call_metrics', 'cost_calls', 'person_keys', 'audit_log') then 100000
                       when t.name in ('companies', 'company_keys') then 300
                       else 20000 end;
        v_each := case when t.name = 'events' then 2 when t.name = 'call_logs' then 10 when t.name = 'skillbase_versions' then 5 else 1 end;
        select string_agg(quote_ident(attname), ', ' order by attnum),
               string_agg(format('(%s)::%s',
                   case when t.name in ('companies', 'company_keys') and attname = 'company_id' then 'filling.u(''company'', n::text)'
                        when attname = 'company_id' then
                             case when t.name in ('users', 'user_credentials', 'api_keys', 'api_key_credentials', 'price_lists', 'cost_price_lists', 'refresh_tokens')
                                  then 'filling.owner(m)' else 'filling.company(m)' end
                        when t.name = 'events' and attname = 'position' then 'n + 1'
                        when t.name = 'events' and attname in ('event_id') then 'filling.u(''event'', n::text)'
                        when t.name = 'events' and attname = 'stream' then '''call-'' || filling.u(''call'', case when m between 98000 and 102999 then ''0'' else m::text end)'
                        when t.name = 'events' and attname = 'version' then 'case when m between 98000 and 102999 then n else n % each + 1 end'
                        when t.name = 'streams' and attname = 'stream' then '''call-'' || filling.u(''call'', m::text)'
                        when t.name = 'streams' and attname = 'version' then '103000'
                        when attname in ('version', 'turn_index') then 'n % each + 1'
                        when attname = 'campaign_id' then 'filling.campaign(m)'
                        when attname = 'skillbase_id' then 'filling.u(''skillbase'', filling.company_number(m) || ''-'' || m % 50)'
                        when attname = 'person_id' then 'filling.u(''person'', (m / 2)::text)'
                        when attname = 'event_type' then '(array[''CallStarted'', ''TurnRecorded'', ''TurnRecorded'', ''CallEnded''])[n / 2 % 4 + 1]'
                        when attname = 'status' and atttypid = 'text'::regtype then
                             case t.name when 'calls' then 'case when m % 100 = 0 then ''active'' else ''ended'' end'
                                         when 'call_tasks' then '(array[''pending'', ''retry'', ''completed'', ''failed'', ''in_progress''])[case when m % 100 = 99 then 5 else m % 4 + 1 end]'
                                         else 'case when m % 50 = 0 then ''running'' else ''completed'' end' end
                        when attname = 'actor' then 'jsonb_build_object(''kind'', ''user'', ''id'', filling.u(''user'', (m / 10 % 100)::text))'
                        -- The fields that columns are generated from.
                        when attname = 'body' then
                             'jsonb_build_object(''status'', case when m % 50 = 1 then ''running'' else ''completed'' end, ''total_tasks'', n,
                                                 ''settings'', jsonb_build_object(''dialed_by'', ''dialed_by'' || n % 20,
                                                     ''skillbase_id'', filling.u(''skillbase'', filling.company_number(m) || ''-'' || m % 50)))'
                        when attname in ('settings', 'contact_data', 'config', 'payload', 'personal', 'failure_personal') then '''{}'''
                        when attname = 'hour' then 'date_trunc(''hour'', now() - make_interval(mins => n::int))'
                        when t.name = 'claim_slots' and attname = 'released_at' then 'case when n % 5 <> 0 then now() - make_interval(secs => n * 600 / 20000) end'
                        when t.name = 'claim_slots' and attname = 'confirmed_at' then 'case when n % 100 <> 0 then now() - make_interval(secs => n * 900 / 20000) end'
                        -- Few rows have what ends them, or what is only for a time.
                        when attname in ('released_at', 'revoked_at', 'deleted_at', 'disabled_at', 'pending_since', 'operator_since', 'invitation_hash', 'used_at') then
                             format('case when m %% 50 = 0 then %s end', case when atttypid = 'bytea'::regtype then 'sha256(n::text::bytea)' else 'now()' end)
                        when attname = 'password_hash' then 'case when m % 50 <> 0 then ''$argon2id'' end'
                        when attname in ('signature', 'countersignature') then 'sha256(n::text::bytea) || sha256(n::text::bytea)'
                        when attname ~ '_hash$|^subject$' and atttypid = 'bytea'::regtype then format('sha256((%L || n)::bytea)', attname)
                        when atttypid = 'uuid'::regtype then format('filling.u(%L, m::text)', regexp_replace(attname, '_id$', ''))
                        when atttypid = 'bytea'::regtype then 'sha256(n::text::bytea)'
                        when atttypid = 'bool'::regtype then 'n % 50 = 0'
                        when atttypid in ('int2'::regtype, 'int4'::regtype) then 'n % 500'
                        when atttypid in ('int8'::regtype, 'numeric'::regtype) then 'n + 1'
                        when atttypid in ('timestamptz'::regtype) then 'now() - make_interval(secs => 10 * (400000 - n))'
                        when atttypid = 'jsonb'::regtype then '''[]'''
                        when format_type(atttypid, atttypmod) like '%[]' then '''{}'''
                        when attname ~ '_hash$|^slug$|^path$|^email$' then format('%L || n', attname)
                        else format('%L || n %% 20', attname) end,
                   format_type(atttypid, atttypmod)), ', ' order by attnum)
          into v_columns, v_values
          from pg_attribute where attrelid = t.oid and attnum > 0 and not attisdropped and attgenerated = '';
        execute format('insert into newvoice.%I (%s) select %s from (select n, n / %5$s as m, %5$s as each from generate_series(0, %4$s::bigint) n) g on conflict do nothing',
                       t.name, v_columns, v_values, v_rows - 1, v_each);
    end loop;
end $$;
update newvoice.log_head set position = 400000, recorded_at = now();
set session_replication_role = origin;
