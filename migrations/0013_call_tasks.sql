-- Read model: call tasks as they are now.
create table call_tasks (
    company_id      uuid        not null,
    task_id         uuid        not null,
    campaign_id     uuid        not null,
    phone_number    text        not null,
    contact_name    text,
    contact_data    jsonb       not null,
    -- pending, in_progress, retry, completed, failed, cancelled
    status          text        not null,
    priority        integer     not null,
    attempt_count   integer     not null,
    last_attempt_at timestamptz,
    next_attempt_at timestamptz,
    -- Of the current or the last attempt.
    call_id         uuid,
    outcome         text,
    error_message   text,
    -- How long the attempt may go without a sign of life.
    lease_sec       integer,
    -- Where in the log the task was created: its age, and within one file its row.
    position        bigint      not null,
    stream_version  bigint      not null,
    created_at      timestamptz not null,
    updated_at      timestamptz not null,
    primary key (company_id, task_id)
);
-- The next to claim: those that wait by priority and age, those to be tried again by when they are due.
create index call_tasks_pending on call_tasks (campaign_id, priority desc, position) where status = 'pending';
create index call_tasks_retry on call_tasks (campaign_id, next_attempt_at) where status = 'retry';
create index call_tasks_newest on call_tasks (company_id, campaign_id, position desc);
create index call_tasks_in_progress on call_tasks (last_attempt_at) where status = 'in_progress';
