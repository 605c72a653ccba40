-- Read model: latencies of all turns per hour, campaign and skillbase, exact but for percentiles.
create table latency_rollups (
    company_id   uuid        not null,
    hour         timestamptz not null,
    campaign_id  uuid        not null,
    skillbase_id uuid        not null,
    -- ttfb_stt, latency_llm, ttfb_tts, eou_latency
    latency      text        not null,
    count        bigint      not null,
    sum_us       numeric     not null,
    min_us       bigint      not null,
    max_us       bigint      not null,
    primary key (company_id, hour, campaign_id, skillbase_id, latency)
);
