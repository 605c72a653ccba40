-- The keys of companies. Personal data in the log and in the read models is encrypted with a key per person. A person's key is wrapped by the
-- company's key, and that one by the master key, which is never in the database. Back the two tables up apart from everything else.
create table company_keys (
    company_id    uuid        not null,
    -- AES-256-GCM: nonce || ciphertext || tag, see eventstore/src/persons/keys.rs.
    wrapped_key   bytea       not null,
    -- The master key that wrapped it: the first 8 bytes of a hash of it.
    master_key_id bytea       not null,
    created_at    timestamptz not null default clock_timestamp()
);
alter table company_keys add constraint company_keys_pkey primary key (company_id);

insert into table_access values
    ('company_keys', 'log', 'select, insert');
select protect_table('company_keys');
