-- Read model: users, without their secrets, as documents.
select drop_read_model('users', '{users}');
create table users (
    company_id     uuid        not null,
    user_id        uuid        not null,
    stream_version bigint      not null,
    created_at     timestamptz not null,
    updated_at     timestamptz not null,
    deleted_at     timestamptz,
    -- The state of the user's stream.
    body           jsonb       not null,
    -- The envelope of the address, as in the log: {person_id, data}. The body has a placeholder.
    personal       jsonb,
    email          text        generated always as (body ->> 'email') stored,
    role           text        generated always as (body ->> 'role') stored,
    -- invited, active, disabled
    status         text        generated always as (body ->> 'status') stored
);
alter table users add constraint users_pkey primary key (company_id, user_id);
create index users_newest on users (company_id, created_at desc, user_id desc);
select protect_table('users');
