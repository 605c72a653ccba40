-- Read model: latencies of all turns per hour, campaign and skillbase; exact except for percentiles.
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
    -- Bucket n > 0 has values up to gamma^(n-1) microseconds, gamma = 1.01 / 0.99; bucket 0 has zeros. Buckets ascend; none is empty.
    buckets      integer[]   not null,
    counts       bigint[]    not null
);
alter table latency_rollups add constraint latency_rollups_pkey primary key (company_id, hour, campaign_id, skillbase_id, latency);

insert into table_access values
    ('latency_rollups', 'app', 'select'),
    ('latency_rollups', 'work', 'select, insert, update, delete');
select protect_table('latency_rollups');
