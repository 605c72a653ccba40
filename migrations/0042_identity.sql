-- Who logs in: by a keyed hash of the address, so that the addresses themselves are nowhere in clear. Rows from before have the
-- address in it until the platform starts.
alter table user_credentials rename column email to email_hash;
alter table user_credentials
    alter column password_hash drop not null,
    -- active, or disabled; null password_hash: invited.
    add column disabled_at       timestamptz,
    -- SHA-256 of the invitation that was given out, and until when it can be taken up.
    add column invitation_hash   bytea unique,
    add column invitation_until  timestamptz;
create index user_credentials_company on user_credentials (company_id);

alter table api_key_credentials
    -- What can be shown of the key: its beginning.
    add column prefix       text,
    add column last_used_at timestamptz;

-- Signing keys are encrypted under the master key; those from before are when the platform starts.
alter table signing_keys
    alter column seed drop not null,
    add column sealed_seed bytea;

-- Refresh tokens, as SHA-256. Each is used once and followed by the next of its family; one that comes again shows that somebody else
-- has it, and ends the family.
create table refresh_tokens (
    token_hash bytea       primary key,
    family     uuid        not null,
    user_id    uuid        not null,
    company_id uuid        not null,
    expires_at timestamptz not null,
    used_at    timestamptz,
    created_at timestamptz not null default clock_timestamp()
);
create index refresh_tokens_family on refresh_tokens (family);
create index refresh_tokens_user on refresh_tokens (user_id);

-- Attempts to log in that failed, by keyed hash of the address and by client.
create table login_failures (
    subject   bytea       primary key,
    count     integer     not null,
    first_at  timestamptz not null
);

-- What was done and what was refused, beside the log: from where, under which request.
create table audit_log (
    -- Nil where nobody knows whose it was.
    company_id uuid        not null,
    -- UUIDv7: ascends with time.
    audit_id   uuid        not null,
    at         timestamptz not null,
    -- {kind, id, name} as in the log; null when nobody has shown who they are.
    actor      jsonb,
    -- Method and route.
    action     text        not null,
    -- The resource's path.
    path       text        not null,
    status     smallint    not null,
    -- Why it was refused.
    reason     text,
    -- The same as the correlation_id of its events.
    request_id uuid        not null,
    -- Address and program of the client.
    client     text,
    user_agent text,
    primary key (company_id, audit_id)
);
-- To forget what is old: the table is in the order of time.
create index audit_log_at on audit_log using brin (at);

insert into table_access values
    ('refresh_tokens', 'identity', 'select, insert, update, delete'),
    ('login_failures', 'identity', 'select, insert, update, delete'),
    ('audit_log', 'identity', 'select, insert, delete'), ('audit_log', 'app', 'select');
select protect_table(t) from unnest(array['refresh_tokens', 'login_failures', 'audit_log']) t;

-- An answer that is kept is encrypted under the company's key; its request is known by keyed hashes. What is there from before is not.
delete from idempotency_keys;
alter table idempotency_keys rename column body to sealed_answer;
alter table idempotency_keys drop column headers;
alter table idempotency_keys rename column key to key_hash;
