-- Read model: mergeable histograms of latencies per hour, campaign and skillbase. Bucket n > 0 holds values up to
-- gamma^(n-1) microseconds, gamma = 1.01 / 0.99; bucket 0 holds zeros.
create table latency_histograms (
    company_id   uuid        not null,
    hour         timestamptz not null,
    campaign_id  uuid        not null,
    skillbase_id uuid        not null,
    latency      text        not null,
    bucket       integer     not null,
    count        bigint      not null,
    primary key (company_id, hour, campaign_id, skillbase_id, latency, bucket)
);
