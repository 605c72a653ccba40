-- Read model: exact sums of costs per hour in which the calls started, campaign, skillbase, component and provider.
create table cost_rollups (
    company_id   uuid        not null,
    hour         timestamptz not null,
    -- The nil UUID for calls without a campaign or skillbase.
    campaign_id  uuid        not null,
    skillbase_id uuid        not null,
    component    text        not null,
    provider     text        not null,
    cost         numeric     not null,
    -- Each call counts once, at its component livekit.
    call_count   bigint      not null
);
alter table cost_rollups add constraint cost_rollups_pkey primary key (company_id, hour, campaign_id, skillbase_id, component, provider);
create index cost_rollups_campaign on cost_rollups (company_id, campaign_id);

insert into table_access values
    ('cost_rollups', 'app', 'select'),
    ('cost_rollups', 'work', 'select, insert, update, delete');
select protect_table('cost_rollups');
