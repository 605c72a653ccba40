-- Read model: call tasks in their present state.
create table call_tasks (
    company_id       uuid        not null,
    task_id          uuid        not null,
    campaign_id      uuid        not null,
    phone_number     text        not null,
    contact_name     text,
    contact_data     jsonb       not null,
    -- pending, in_progress, retry, completed, failed, cancelled
    status           text        not null,
    priority         integer     not null,
    attempt_count    integer     not null,
    last_attempt_at  timestamptz,
    next_attempt_at  timestamptz,
    -- The call of the present or the last attempt.
    call_id          uuid,
    outcome          text,
    error_message    text,
    -- How long the attempt lasts without a sign of life.
    lease_sec        integer,
    -- Position at which the task was created: its age, and its order within one file.
    position         bigint      not null,
    stream_version   bigint      not null,
    created_at       timestamptz not null,
    updated_at       timestamptz not null,
    person_id        uuid,
    -- The envelope of the contact data, as in the log: {person_id, data}. The columns have placeholders.
    personal         jsonb,
    -- The envelope of the last failed attempt's message.
    failure_personal jsonb
);
alter table call_tasks add constraint call_tasks_pkey primary key (company_id, task_id);
create index call_tasks_in_progress on call_tasks (last_attempt_at) where status = 'in_progress';
create index call_tasks_newest on call_tasks (company_id, campaign_id, position desc);
create index call_tasks_pending on call_tasks (campaign_id, priority desc, position) where status = 'pending';
create index call_tasks_person on call_tasks (company_id, person_id) where person_id is not null;
create index call_tasks_retry on call_tasks (campaign_id, next_attempt_at) where status = 'retry';
create index call_tasks_status on call_tasks (company_id, campaign_id, status, position desc);

insert into table_access values
    ('call_tasks', 'app', 'select'),
    ('call_tasks', 'work', 'select, insert, update, delete');
select protect_table('call_tasks');
