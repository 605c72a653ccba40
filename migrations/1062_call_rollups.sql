-- Read model: sums of call_metrics per hour in which the calls started, campaign and skillbase. Calls without a campaign or skillbase have
-- the nil UUID.
create table call_rollups (
    company_id         uuid        not null,
    hour               timestamptz not null,
    campaign_id        uuid        not null,
    skillbase_id       uuid        not null,
    call_count         bigint      not null,
    ended_count        bigint      not null,
    turn_count         bigint      not null,
    interruption_count bigint      not null,
    -- Sums, and the number of calls that have the value.
    stt_duration_sec   numeric     not null,
    stt_calls          bigint      not null,
    llm_input_tokens   bigint      not null,
    llm_input_calls    bigint      not null,
    llm_output_tokens  bigint      not null,
    llm_output_calls   bigint      not null,
    tts_characters     bigint      not null,
    tts_calls          bigint      not null,
    duration_sec       numeric     not null,
    success            bigint      not null,
    fail               bigint      not null,
    voicemail          bigint      not null,
    no_answer          bigint      not null,
    busy               bigint      not null
);
alter table call_rollups add constraint call_rollups_pkey primary key (company_id, hour, campaign_id, skillbase_id);
create index call_rollups_campaign on call_rollups (company_id, campaign_id);

insert into table_access values
    ('call_rollups', 'app', 'select'),
    ('call_rollups', 'work', 'select, insert, update, delete');
select protect_table('call_rollups');
