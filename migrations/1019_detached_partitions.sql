-- Parts of the log that were detached from it: their tables stay unchanged, to be dumped, moved and dropped, or attached again.
create table detached_partitions (
    name        text        not null,
    -- Positions from `first` to before `beyond`.
    first       bigint      not null,
    beyond      bigint      not null,
    detached_at timestamptz not null default clock_timestamp()
);
alter table detached_partitions add constraint detached_partitions_pkey primary key (name);

insert into table_access values
    ('detached_partitions', 'log', 'select');
select protect_table('detached_partitions');
