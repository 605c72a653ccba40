-- What acts without a request (the crate `workers`). A worker that one process runs has a lease with a fencing token; one that follows the
-- log has a cursor.
create table workers (
    name           text collate "C" primary key,
    holder         uuid,
    holder_process text,
    token          bigint not null default 0,
    lease_until    timestamptz not null default '-infinity',
    position       bigint,
    round_at       timestamptz,
    due_at         timestamptz not null default '-infinity',
    error          text,
    error_at       timestamptz
);

-- What workers failed to do. Without a time for the next attempt it is a dead letter: it waits for an operator.
create table worker_failures (
    worker     text collate "C" not null,
    item       text collate "C" not null,
    company_id uuid,
    attempts   integer not null,
    error      text not null,
    failed_at  timestamptz not null,
    retry_at   timestamptz,
    primary key (worker, item)
);

insert into table_access values ('workers', 'work', 'select, insert, update'), ('worker_failures', 'work', 'select, insert, update, delete');
select protect_table('workers'), protect_table('worker_failures');
