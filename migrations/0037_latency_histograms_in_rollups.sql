-- A rollup's histogram stands in its row: one row per hour, campaign, skillbase and latency instead of one per bucket.
-- Bucket n > 0 holds values up to gamma^(n-1) microseconds, gamma = 1.01 / 0.99; bucket 0 holds zeros. Buckets ascend, none is empty.
alter table latency_rollups add column buckets integer[] not null default '{}', add column counts bigint[] not null default '{}';
update latency_rollups r
   set buckets = h.buckets, counts = h.counts
  from (select company_id, hour, campaign_id, skillbase_id, latency, array_agg(bucket order by bucket) as buckets,
               array_agg(count order by bucket) as counts
          from latency_histograms where count > 0 group by 1, 2, 3, 4, 5) h
 where (r.company_id, r.hour, r.campaign_id, r.skillbase_id, r.latency) = (h.company_id, h.hour, h.campaign_id, h.skillbase_id, h.latency);
drop table latency_histograms;

-- Read model: what all of a campaign's calls add up to, so that reading it does not depend on for how long it has been running.
create table campaign_calls (
    company_id   uuid    not null,
    campaign_id  uuid    not null,
    call_count   bigint  not null,
    ended_count  bigint  not null,
    duration_sec numeric not null,
    primary key (company_id, campaign_id)
);
insert into campaign_calls
select company_id, campaign_id, sum(call_count), sum(ended_count), trim_scale(sum(duration_sec)) from call_rollups
 where campaign_id <> '00000000-0000-0000-0000-000000000000' group by 1, 2 having sum(call_count) > 0;

-- Tables of another shape are no longer of use to go back to.
drop table if exists call_metrics__previous, call_rollups__previous, latency_rollups__previous, latency_histograms__previous,
    call_metrics__next, call_rollups__next, latency_rollups__next, latency_histograms__next;
