-- Refresh tokens, as SHA-256. Each is used once and followed by the next of its family. One that is used again shows that another client has
-- it, and ends the family.
create table refresh_tokens (
    token_hash bytea       not null,
    family     uuid        not null,
    user_id    uuid        not null,
    company_id uuid        not null,
    expires_at timestamptz not null,
    used_at    timestamptz,
    created_at timestamptz not null default clock_timestamp()
);
alter table refresh_tokens add constraint refresh_tokens_pkey primary key (token_hash);
create index refresh_tokens_family on refresh_tokens (family);
create index refresh_tokens_user on refresh_tokens (user_id);

insert into table_access values
    ('refresh_tokens', 'identity', 'select, insert, update, delete');
select protect_table('refresh_tokens');
