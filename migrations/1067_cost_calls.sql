-- Read model: the bills of calls.
create table cost_calls (
    company_id     uuid        not null,
    call_id        uuid        not null,
    campaign_id    uuid,
    skillbase_id   uuid,
    started_at     timestamptz not null,
    duration_sec   numeric,
    -- First and last time of usage, to find the calls that a price list concerns.
    first_usage_at timestamptz not null,
    last_usage_at  timestamptz not null,
    cost_stt       numeric     not null,
    cost_llm       numeric     not null,
    cost_tts       numeric     not null,
    cost_livekit   numeric     not null,
    -- [{component, provider?, cost, usage: [{model?, price_list_id?, quantity, priced}]}]: by component and provider, with the usage
    -- under each price list; decimals are strings.
    lines          jsonb       not null,
    -- Whether it used something for which its price list has no rate.
    has_unpriced   boolean     not null
);
alter table cost_calls add constraint cost_calls_pkey primary key (company_id, call_id);
create index cost_calls_started on cost_calls (company_id, started_at);
create index cost_calls_unpriced on cost_calls (company_id, started_at) where has_unpriced;
create index cost_calls_usage on cost_calls (company_id, last_usage_at);

insert into table_access values
    ('cost_calls', 'app', 'select'),
    ('cost_calls', 'work', 'select, insert, update, delete');
select protect_table('cost_calls');
