-- Read model: what call_metrics adds up to per hour in which the calls started, campaign and skillbase.
-- A call without campaign or skillbase counts under the nil UUID.
create table call_rollups (
    company_id         uuid        not null,
    hour               timestamptz not null,
    campaign_id        uuid        not null,
    skillbase_id       uuid        not null,
    call_count         bigint      not null,
    ended_count        bigint      not null,
    turn_count         bigint      not null,
    interruption_count bigint      not null,
    -- Sums, and how many calls have the value.
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
    busy               bigint      not null,
    primary key (company_id, hour, campaign_id, skillbase_id)
);
create index call_rollups_campaign on call_rollups (company_id, campaign_id);
