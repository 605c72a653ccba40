-- One-time tickets with which browsers open WebSockets and event streams; only their hashes are stored.
create table auth_tickets (
    ticket_hash bytea       not null,
    -- The caller for whom the ticket stands.
    caller      jsonb       not null,
    expires_at  timestamptz not null
);
alter table auth_tickets add constraint auth_tickets_pkey primary key (ticket_hash);
create index auth_tickets_expires_at on auth_tickets (expires_at);

insert into table_access values
    ('auth_tickets', 'identity', 'select, insert, update, delete');
select protect_table('auth_tickets');
