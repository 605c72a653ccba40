-- Read model: calls as they are now.
create table calls (
    company_id                 uuid        not null,
    call_id                    uuid        not null,
    campaign_id                uuid,
    task_id                    uuid,
    skillbase_id               uuid,
    skillbase_version          integer,
    direction                  text        not null,
    phone_number               text        not null,
    -- dialing, in_progress, ended
    status                     text        not null,
    -- When it was dialed, until it is known when it began.
    started_at                 timestamptz not null,
    ended_at                   timestamptz,
    duration_sec               numeric,
    final_state                text,
    hangup_by                  text,
    outcome                    text,
    outcome_confidence_percent smallint,
    outcome_method             text,
    -- recorded_at of its last event: its last sign of life.
    last_event_at              timestamptz not null,
    stream_version             bigint      not null,
    created_at                 timestamptz not null,
    primary key (company_id, call_id)
);
create index calls_newest on calls (company_id, started_at desc, call_id desc);
create index calls_task on calls (company_id, task_id) where task_id is not null;
create index calls_live on calls (company_id) where status <> 'ended';
