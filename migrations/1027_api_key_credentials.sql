-- Secrets, outside of the log: hashes of API keys. A key has 256 random bits, so one SHA-256 protects it.
create table api_key_credentials (
    key_hash     bytea       not null,
    api_key_id   uuid        not null,
    company_id   uuid        not null,
    name         text        not null,
    role         text        not null,
    revoked_at   timestamptz,
    created_at   timestamptz not null default now(),
    -- The beginning of the key, which may be shown.
    prefix       text,
    last_used_at timestamptz
);
alter table api_key_credentials add constraint api_key_credentials_api_key_id_key unique (api_key_id);
alter table api_key_credentials add constraint api_key_credentials_pkey primary key (key_hash);

insert into table_access values
    ('api_key_credentials', 'identity', 'select, insert, update, delete');
select protect_table('api_key_credentials');
