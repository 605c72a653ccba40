-- Work that workers failed to do. Without a time for the next attempt it is a dead letter, which waits for an operator.
create table worker_failures (
    worker     text        collate "C" not null,
    item       text        collate "C" not null,
    company_id uuid,
    attempts   integer     not null,
    error      text        not null,
    failed_at  timestamptz not null,
    -- When the next attempt is due; null for a dead letter.
    retry_at   timestamptz
);
alter table worker_failures add constraint worker_failures_pkey primary key (worker, item);

insert into table_access values
    ('worker_failures', 'work', 'select, insert, update, delete');
select protect_table('worker_failures');
