-- Read model: API keys, without their secrets.
create table api_keys (
    company_id uuid        not null,
    api_key_id uuid        not null,
    name       text        not null,
    role       text        not null,
    created_at timestamptz not null,
    revoked_at timestamptz,
    primary key (company_id, api_key_id)
);
