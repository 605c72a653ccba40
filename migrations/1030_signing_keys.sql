-- Secrets, outside of the log: the Ed25519 keys that sign tokens. The newest signs; all verify.
create table signing_keys (
    key_id      uuid        not null,
    created_at  timestamptz not null default now(),
    -- Encrypted under the master key.
    sealed_seed bytea       not null
);
alter table signing_keys add constraint signing_keys_pkey primary key (key_id);

insert into table_access values
    ('signing_keys', 'identity', 'select, insert, update, delete');
select protect_table('signing_keys');
