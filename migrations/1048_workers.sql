-- What acts without a request (the crate `workers`). A worker that one process runs has a lease with a fencing token; one that follows the
-- log has a cursor.
create table workers (
    name           text        collate "C" not null,
    -- The holder of the lease.
    holder         uuid,
    holder_process text,
    -- The fencing token: each new holder has a higher one.
    token          bigint      not null default 0,
    lease_until    timestamptz not null default '-infinity',
    -- The cursor of a worker that follows the log.
    position       bigint,
    -- When the last round ended, and when the next one is due.
    round_at       timestamptz,
    due_at         timestamptz not null default '-infinity',
    -- Why the last round failed, and when a round last failed.
    error          text,
    error_at       timestamptz
);
alter table workers add constraint workers_pkey primary key (name);

insert into table_access values
    ('workers', 'work', 'select, insert, update');
select protect_table('workers');
