-- Expired tickets are deleted each time a ticket is issued.
create index auth_tickets_expires_at on auth_tickets (expires_at);
