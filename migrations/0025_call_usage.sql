-- Read model: what each call used, by what and under which price list it is billed.
create table call_usage (
    company_id    uuid    not null,
    call_id       uuid    not null,
    -- stt, llm_input, llm_output, tts, livekit
    component     text    not null,
    -- Empty when the turn named none.
    provider      text    not null,
    model         text    not null,
    -- In force when it was used; nil UUID when none was.
    price_list_id uuid    not null,
    -- Seconds, tokens or characters.
    quantity      numeric not null,
    -- Whether the list has a rate for it.
    priced        boolean not null,
    primary key (company_id, call_id, component, provider, model, price_list_id)
);
create index call_usage_unpriced on call_usage (company_id, call_id) where not priced;
