-- Read model: counts of a campaign's tasks. Its calls are in campaign_calls, their costs in campaign_costs.
create table campaign_stats (
    company_id       uuid        not null,
    campaign_id      uuid        not null,
    -- Tasks by status.
    pending          bigint      not null,
    in_progress      bigint      not null,
    retry            bigint      not null,
    completed        bigint      not null,
    failed           bigint      not null,
    cancelled        bigint      not null,
    -- Tasks by the outcome of their last attempt.
    success          bigint      not null,
    fail             bigint      not null,
    voicemail        bigint      not null,
    no_answer        bigint      not null,
    busy             bigint      not null,
    -- Number of claims, and their times.
    attempts         bigint      not null,
    first_attempt_at timestamptz,
    last_attempt_at  timestamptz
);
alter table campaign_stats add constraint campaign_stats_pkey primary key (company_id, campaign_id);

insert into table_access values
    ('campaign_stats', 'app', 'select'),
    ('campaign_stats', 'work', 'select, insert, update, delete');
select protect_table('campaign_stats');
