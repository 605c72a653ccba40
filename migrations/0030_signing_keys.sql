-- Secrets, kept apart from the log: the Ed25519 keys that sign tokens. The newest signs; all verify.
create table signing_keys (
    key_id     uuid primary key,
    seed       bytea       not null check (length(seed) = 32),
    created_at timestamptz not null default now()
);
