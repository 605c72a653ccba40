-- Secrets, kept apart from the log: who logs in with which password.
create table user_credentials (
    email         text primary key,
    user_id       uuid        not null unique,
    company_id    uuid        not null,
    role          text        not null,
    -- Argon2id, PHC string.
    password_hash text        not null,
    created_at    timestamptz not null default now()
);
