-- Read model: the calls of the cost ledger.
create table cost_calls (
    company_id     uuid        not null,
    call_id        uuid        not null,
    campaign_id    uuid,
    skillbase_id   uuid,
    started_at     timestamptz not null,
    duration_sec   numeric,
    -- First and last moment of usage: which calls a price list touches.
    first_usage_at timestamptz not null,
    last_usage_at  timestamptz not null,
    primary key (company_id, call_id)
);
create index cost_calls_started on cost_calls (company_id, started_at);
create index cost_calls_usage on cost_calls (company_id, last_usage_at);
