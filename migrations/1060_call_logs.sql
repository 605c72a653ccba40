-- Read model: one row per turn. A value that was not measured is null.
create table call_logs (
    company_id        uuid        not null,
    call_id           uuid        not null,
    turn_index        integer     not null,
    occurred_at       timestamptz not null,
    recorded_at       timestamptz not null,
    user_text         text,
    agent_text        text,
    state             text,
    ttfb_stt_us       bigint,
    latency_llm_us    bigint,
    ttfb_tts_us       bigint,
    eou_latency_us    bigint,
    stt_duration_sec  numeric,
    llm_input_tokens  bigint,
    llm_output_tokens bigint,
    tts_characters    bigint,
    interrupted       boolean     not null,
    stt_provider      text,
    llm_provider      text,
    llm_model         text,
    tts_provider      text,
    -- The envelope of the texts and the state, as in the log: {person_id, data}. The columns have placeholders.
    personal          jsonb
);
alter table call_logs add constraint call_logs_pkey primary key (company_id, call_id, turn_index);

insert into table_access values
    ('call_logs', 'app', 'select'),
    ('call_logs', 'work', 'select, insert, update, delete');
select protect_table('call_logs');
