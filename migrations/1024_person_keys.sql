-- The keys of persons; see company_keys. An erasure deletes the key.
create table person_keys (
    company_id  uuid        not null,
    -- Random; it says nothing about the person.
    person_id   uuid        not null,
    -- HMAC-SHA-256 of the phone number (E.164) under the company's key, to find the person of a number. Null for users.
    phone_hash  bytea,
    wrapped_key bytea       not null,
    created_at  timestamptz not null default clock_timestamp()
);
alter table person_keys add constraint person_keys_company_id_phone_hash_key unique (company_id, phone_hash);
alter table person_keys add constraint person_keys_pkey primary key (company_id, person_id);

insert into table_access values
    ('person_keys', 'log', 'select, insert, delete');
select protect_table('person_keys');
