-- One-time tickets with which browsers open WebSockets and event streams; only their hashes are kept.
create table auth_tickets (
    ticket_hash bytea primary key,
    -- The caller the ticket stands for.
    caller      jsonb       not null,
    expires_at  timestamptz not null
);
