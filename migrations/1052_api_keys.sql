-- Read model: API keys, without their secrets.
create table api_keys (
    company_id uuid        not null,
    api_key_id uuid        not null,
    name       text        not null,
    role       text        not null,
    created_at timestamptz not null,
    revoked_at timestamptz
);
alter table api_keys add constraint api_keys_pkey primary key (company_id, api_key_id);

insert into table_access values
    ('api_keys', 'app', 'select'),
    ('api_keys', 'work', 'select, insert, update, delete');
select protect_table('api_keys');
