-- What there is once in an installation: the master key it was made with, known by its id. The first process to start on an empty
-- database stores its own; a process with another key refuses to start.
create table installation (
    only_row      boolean     primary key default true check (only_row),
    -- HMAC-SHA-256 of the master key over the word `id`, its first 8 bytes.
    master_key_id bytea       not null,
    created_at    timestamptz not null default now()
);
insert into table_access values ('installation', 'log', 'select');
select protect_table('installation');
