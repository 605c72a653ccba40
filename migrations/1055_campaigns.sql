-- Read model: campaigns; the counts of their tasks are in campaign_stats.
create table campaigns (
    company_id     uuid        not null,
    campaign_id    uuid        not null,
    skillbase_id   uuid        not null,
    name           text        not null,
    -- draft, running, paused, completed, deleted
    status         text        not null,
    -- Everything that is configured.
    settings       jsonb       not null,
    -- Number of tasks that were imported.
    total_tasks    bigint      not null,
    dialed_by      text        not null,
    stream_version bigint      not null,
    created_at     timestamptz not null,
    updated_at     timestamptz not null
);
alter table campaigns add constraint campaigns_pkey primary key (company_id, campaign_id);
create index campaigns_at_work on campaigns (status, dialed_by) where status in ('running', 'deleted');
create index campaigns_newest on campaigns (company_id, created_at desc, campaign_id desc);

insert into table_access values
    ('campaigns', 'app', 'select'),
    ('campaigns', 'work', 'select, insert, update, delete');
select protect_table('campaigns');
