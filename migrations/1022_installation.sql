-- The master key of the installation, by its id. The first process that starts on an empty database stores its own; a process with another
-- key refuses to start.
create table installation (
    only_row      boolean     not null default true,
    -- The first 8 bytes of HMAC-SHA-256 with the master key over the word `id`.
    master_key_id bytea       not null,
    created_at    timestamptz not null default now()
);
alter table installation add constraint installation_pkey primary key (only_row);
alter table installation add constraint installation_only_row_check check (only_row);

insert into table_access values
    ('installation', 'log', 'select');
select protect_table('installation');
