-- Read model: API keys, without their secrets, as documents.
select drop_read_model('api_keys', '{api_keys}');
create table api_keys (
    company_id     uuid        not null,
    api_key_id     uuid        not null,
    stream_version bigint      not null,
    created_at     timestamptz not null,
    updated_at     timestamptz not null,
    -- When the key was revoked.
    deleted_at     timestamptz,
    -- The state of the key's stream; of a revoked key, the state before.
    body           jsonb       not null,
    personal       jsonb,
    name           text        generated always as (body ->> 'name') stored,
    role           text        generated always as (body ->> 'role') stored
);
alter table api_keys add constraint api_keys_pkey primary key (company_id, api_key_id);
create index api_keys_newest on api_keys (company_id, created_at desc, api_key_id desc) where deleted_at is null;
select protect_table('api_keys');
