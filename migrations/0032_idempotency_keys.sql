-- Answers to POST requests that came with an Idempotency-Key, so that a repeated request gets the same answer.
create table idempotency_keys (
    company_id   uuid        not null,
    method       text        not null,
    path         text        not null,
    key          text        not null,
    -- sha256 of the body; of multipart without the boundary.
    body_hash    bytea       not null,
    -- The answer; null while the request runs.
    status       smallint,
    headers      jsonb,
    body         bytea,
    -- While no answer is there: who runs it, until when nobody else may.
    locked_until timestamptz not null,
    created_at   timestamptz not null default now(),
    primary key (company_id, method, path, key)
);
create index idempotency_keys_age on idempotency_keys (created_at);
