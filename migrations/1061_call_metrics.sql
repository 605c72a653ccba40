-- Read model: one row per call, with the measured values of its turns.
create table call_metrics (
    company_id         uuid        not null,
    call_id            uuid        not null,
    campaign_id        uuid,
    skillbase_id       uuid,
    started_at         timestamptz not null,
    turn_count         bigint      not null,
    interruption_count bigint      not null,
    -- Sums over the turns that have the value; null if none has.
    stt_duration_sec   numeric,
    llm_input_tokens   bigint,
    llm_output_tokens  bigint,
    tts_characters     bigint,
    -- All measured values, ascending, in microseconds: percentiles of one call are exact.
    ttfb_stt_us        bigint[]    not null,
    latency_llm_us     bigint[]    not null,
    ttfb_tts_us        bigint[]    not null,
    eou_latency_us     bigint[]    not null,
    duration_sec       numeric,
    outcome            text
);
alter table call_metrics add constraint call_metrics_pkey primary key (company_id, call_id);
create index call_metrics_started on call_metrics (company_id, started_at);

insert into table_access values
    ('call_metrics', 'app', 'select'),
    ('call_metrics', 'work', 'select, insert, update, delete');
select protect_table('call_metrics');
