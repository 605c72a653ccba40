-- Secrets, outside of the log: users' addresses and passwords. Several companies may have invited an address; it belongs to the user who
-- has joined with it.
create table user_credentials (
    -- Keyed hash of the address.
    email_hash       text        not null,
    user_id          uuid        not null,
    company_id       uuid        not null,
    role             text        not null,
    -- Argon2id, as a PHC string; null for a user who has not joined yet.
    password_hash    text,
    created_at       timestamptz not null default now(),
    disabled_at      timestamptz,
    -- SHA-256 of the invitation, and until when it can be accepted.
    invitation_hash  bytea,
    invitation_until timestamptz,
    -- Since when the user is an operator of the installation.
    operator_since   timestamptz,
    -- When a registration stored these credentials, while its events are not in the log yet: until then they give access to nothing.
    pending_since    timestamptz
);
alter table user_credentials add constraint user_credentials_invitation_hash_key unique (invitation_hash);
alter table user_credentials add constraint user_credentials_pkey primary key (user_id);
create unique index user_credentials_joined on user_credentials (email_hash) where password_hash is not null;
create unique index user_credentials_of_company on user_credentials (company_id, email_hash);
create index user_credentials_role on user_credentials (company_id, role);

insert into table_access values
    ('user_credentials', 'identity', 'select, insert, update, delete');
select protect_table('user_credentials');
