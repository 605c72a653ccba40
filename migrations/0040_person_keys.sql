-- Personal data in the log and in the read models is encrypted with a key per person. The keys are here, wrapped: a person's by
-- the company's, the company's by the master key, which is never in the database. To be backed up apart from everything else.
create table company_keys (
    company_id    uuid        primary key,
    -- AES-256-GCM: nonce || ciphertext || tag, see eventstore/src/persons/keys.rs.
    wrapped_key   bytea       not null,
    -- Which master key wrapped it: the first 8 bytes of a hash of it.
    master_key_id bytea       not null,
    created_at    timestamptz not null default clock_timestamp()
);

create table person_keys (
    company_id  uuid        not null,
    -- Random; it says nothing about the person.
    person_id   uuid        not null,
    -- HMAC-SHA-256 of the phone number (E.164) under the company's key: how a number is found. Null for who is no callee.
    phone_hash  bytea,
    wrapped_key bytea       not null,
    created_at  timestamptz not null default clock_timestamp(),
    primary key (company_id, person_id),
    unique (company_id, phone_hash)
);

-- How many persons have been erased: every process looks, and forgets what it knows when the number has changed.
create table erasures (
    only_row boolean primary key default true check (only_row),
    count    bigint  not null
);
insert into erasures (count) values (0);

-- What the log says in clear stands in the columns there were; `personal` is the envelope of the rest, as it is in the log:
-- {person_id, data}.
alter table calls add column person_id uuid, add column personal jsonb;
create index calls_person on calls (company_id, person_id) where person_id is not null;
alter table call_tasks
    add column person_id        uuid,
    add column personal         jsonb,
    -- Of the last failed attempt's message.
    add column failure_personal jsonb;
create index call_tasks_person on call_tasks (company_id, person_id) where person_id is not null;
alter table call_logs add column personal jsonb;
alter table users
    add column personal jsonb,
    -- invited, active, disabled
    add column status   text    not null default 'active',
    -- Whether they ever were active.
    add column joined   boolean not null default true;
create index users_newest on users (company_id, created_at desc, user_id desc);
