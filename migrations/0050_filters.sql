-- What can be asked for is found in an index: else a page of a list is the first rows that pass, of all that a company has.

-- Of the tables that a rebuild replaces, those beside the live one get the index as well: they may stand in its place one day.
create function pg_temp.index_read_model(p_table text, p_index text, p_columns text) returns void language plpgsql as $$
declare suffix text;
begin
    foreach suffix in array array['', '__next', '__previous'] loop
        if to_regclass(quote_ident(p_table || suffix)) is not null then
            execute format('create index %I on %I %s', p_index || suffix, p_table || suffix, p_columns);
        end if;
    end loop;
end $$;

select pg_temp.index_read_model('calls', 'calls_campaign', '(company_id, campaign_id, started_at desc, call_id desc)');
select pg_temp.index_read_model('calls', 'calls_skillbase', '(company_id, skillbase_id, started_at desc, call_id desc)');
select pg_temp.index_read_model('calls', 'calls_outcome', '(company_id, outcome, started_at desc, call_id desc)');
select pg_temp.index_read_model('calls', 'calls_direction', '(company_id, direction, started_at desc, call_id desc)');
select pg_temp.index_read_model('call_tasks', 'call_tasks_status', '(company_id, campaign_id, status, position desc)');

-- `->>` is not leakproof: under row-level security no index helps a condition with it.
alter table audit_log add column actor_id text generated always as (actor ->> 'id') stored;
create index audit_log_newest on audit_log (company_id, at desc, audit_id desc);
create index audit_log_refused on audit_log (company_id, at desc, audit_id desc) where status >= 400;
create index audit_log_actor on audit_log (company_id, actor_id, at desc, audit_id desc) where actor_id is not null;
create index audit_log_request on audit_log (company_id, request_id);

-- Whether a company has an admin left; `user_credentials_of_company` begins with the company, too.
create index user_credentials_role on user_credentials (company_id, role);
drop index user_credentials_company;
