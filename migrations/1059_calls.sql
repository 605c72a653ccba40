-- Read model: calls in their present state.
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
    -- When it was dialed, until its start is known.
    started_at                 timestamptz not null,
    ended_at                   timestamptz,
    duration_sec               numeric,
    final_state                text,
    hangup_by                  text,
    outcome                    text,
    outcome_confidence_percent smallint,
    outcome_method             text,
    -- recorded_at of its last event, which is its last sign of life.
    last_event_at              timestamptz not null,
    stream_version             bigint      not null,
    created_at                 timestamptz not null,
    person_id                  uuid,
    -- The envelope of the phone number, as in the log: {person_id, data}. The column has a placeholder.
    personal                   jsonb
);
alter table calls add constraint calls_pkey primary key (company_id, call_id);
create index calls_campaign on calls (company_id, campaign_id, started_at desc, call_id desc);
create index calls_direction on calls (company_id, direction, started_at desc, call_id desc);
create index calls_live on calls (company_id) where status <> 'ended';
create index calls_newest on calls (company_id, started_at desc, call_id desc);
create index calls_outcome on calls (company_id, outcome, started_at desc, call_id desc);
create index calls_person on calls (company_id, person_id) where person_id is not null;
create index calls_skillbase on calls (company_id, skillbase_id, started_at desc, call_id desc);
create index calls_task on calls (company_id, task_id) where task_id is not null;

insert into table_access values
    ('calls', 'app', 'select'),
    ('calls', 'work', 'select, insert, update, delete');
select protect_table('calls');
