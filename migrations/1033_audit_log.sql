-- Changes and refusals of the API, outside of the log: by whom, from where, under which request. Refusals that repeat within a minute are
-- one row.
create table audit_log (
    -- Nil if the company is not known.
    company_id uuid        not null,
    -- UUIDv7: ascends with time.
    audit_id   uuid        not null,
    at         timestamptz not null,
    -- {kind, id, name} as in the log; null if the caller is not known.
    actor      jsonb,
    -- Method and route.
    action     text        not null,
    -- The resource's path.
    path       text        not null,
    status     smallint    not null,
    -- Why it was refused.
    reason     text,
    -- The same as the correlation_id of its events.
    request_id uuid        not null,
    -- Address and program of the client.
    client     text,
    user_agent text,
    -- `->>` is not leakproof: under row-level security no index helps a condition with it.
    actor_id   text        generated always as (actor ->> 'id') stored,
    -- Number of equal refusals within a minute.
    count      integer     not null default 1
);
alter table audit_log add constraint audit_log_pkey primary key (company_id, audit_id);
create index audit_log_actor on audit_log (company_id, actor_id, at desc, audit_id desc) where actor_id is not null;
create index audit_log_at on audit_log using brin (at);
create index audit_log_newest on audit_log (company_id, at desc, audit_id desc);
create index audit_log_refused on audit_log (company_id, at desc, audit_id desc) where status >= 400;
create index audit_log_request on audit_log (company_id, request_id);

insert into table_access values
    ('audit_log', 'app', 'select'),
    ('audit_log', 'identity', 'select, insert, update, delete');
select protect_table('audit_log');
