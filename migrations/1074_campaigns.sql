-- Read model: campaigns, as documents; the counts of their tasks are in campaign_stats.
select drop_read_model('campaigns', '{campaigns}');
create table campaigns (
    company_id     uuid        not null,
    campaign_id    uuid        not null,
    stream_version bigint      not null,
    created_at     timestamptz not null,
    updated_at     timestamptz not null,
    deleted_at     timestamptz,
    -- The state of the campaign's stream: its settings, its status, the number of its tasks; of a deleted campaign, the state before.
    body           jsonb       not null,
    personal       jsonb,
    name           text        generated always as (body #>> '{settings,name}') stored,
    skillbase_id   uuid        generated always as ((body #>> '{settings,skillbase_id}')::uuid) stored,
    dialed_by      text        generated always as (body #>> '{settings,dialed_by}') stored,
    -- draft, running, paused, completed, deleted
    status         text        generated always as (case when deleted_at is null then body ->> 'status' else 'deleted' end) stored,
    -- Number of tasks that were imported.
    total_tasks    bigint      generated always as ((body ->> 'total_tasks')::bigint) stored
);
alter table campaigns add constraint campaigns_pkey primary key (company_id, campaign_id);
create index campaigns_at_work on campaigns (status, dialed_by) where status in ('running', 'deleted');
create index campaigns_newest on campaigns (company_id, created_at desc, campaign_id desc);
select protect_table('campaigns');
