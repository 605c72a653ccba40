-- Read model: a campaign's tasks, counted. Calls and costs of a campaign are in call_rollups and cost_rollups.
create table campaign_stats (
    company_id       uuid   not null,
    campaign_id      uuid   not null,
    -- Tasks by status.
    pending          bigint not null,
    in_progress      bigint not null,
    retry            bigint not null,
    completed        bigint not null,
    failed           bigint not null,
    cancelled        bigint not null,
    -- Tasks by the outcome of their last attempt.
    success          bigint not null,
    fail             bigint not null,
    voicemail        bigint not null,
    no_answer        bigint not null,
    busy             bigint not null,
    -- Claims.
    attempts         bigint not null,
    first_attempt_at timestamptz,
    last_attempt_at  timestamptz,
    primary key (company_id, campaign_id)
);
