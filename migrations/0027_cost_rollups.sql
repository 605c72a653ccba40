-- Read model: costs per hour in which the calls started, campaign, skillbase, component and provider; exact sums of call_costs.
create table cost_rollups (
    company_id   uuid        not null,
    hour         timestamptz not null,
    -- Nil UUID for calls without.
    campaign_id  uuid        not null,
    skillbase_id uuid        not null,
    component    text        not null,
    provider     text        not null,
    cost         numeric     not null,
    -- Each call counts once, at its livekit component.
    call_count   bigint      not null,
    primary key (company_id, hour, campaign_id, skillbase_id, component, provider)
);
create index cost_rollups_campaign on cost_rollups (company_id, campaign_id);
