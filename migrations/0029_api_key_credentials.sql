-- Secrets, kept apart from the log: hashes of API keys. A key has 256 random bits, so one SHA-256 protects it.
create table api_key_credentials (
    key_hash   bytea primary key,
    api_key_id uuid        not null unique,
    company_id uuid        not null,
    name       text        not null,
    role       text        not null,
    revoked_at timestamptz,
    created_at timestamptz not null default now()
);
