-- Answers to requests with an Idempotency-Key, so that a repeated request gets the same answer. An answer is encrypted under the company's
-- key; its request is identified by keyed hashes.
create table idempotency_keys (
    company_id    uuid        not null,
    method        text        not null,
    path          text        not null,
    key_hash      text        not null,
    -- sha256 of the body; of multipart without the boundary.
    body_hash     bytea       not null,
    -- The answer; null while the request runs.
    status        smallint,
    sealed_answer bytea,
    -- While there is no answer: until when another process does not run the request, unless `locked_by` has ended.
    locked_until  timestamptz not null,
    created_at    timestamptz not null default now(),
    -- The process that runs the request.
    locked_by     text
);
alter table idempotency_keys add constraint idempotency_keys_pkey primary key (company_id, method, path, key_hash);
create index idempotency_keys_age on idempotency_keys (created_at);

insert into table_access values
    ('idempotency_keys', 'app', 'select, insert, update, delete'),
    ('idempotency_keys', 'work', 'select, delete');
select protect_table('idempotency_keys');
