-- The end of the log, in one row. An append locks it, so that positions ascend in commit order without gaps.
create table log_head (
    only_row        boolean     not null default true,
    -- Position of the last event; 0 while the log is empty.
    position        bigint      not null,
    -- Hash of the last event; 32 zero bytes while the log is empty.
    hash            bytea       not null,
    -- recorded_at of the last event: the log's clock never decreases, even if the server's clock does.
    recorded_at     timestamptz not null,
    -- All positions in the partition that is being filled are smaller.
    partition_end   bigint      not null default 0,
    -- The greatest event id in the partitions before it: a greater one can only be in the one that is being filled, whose
    -- unique index has it.
    closed_event_id uuid        not null default '00000000-0000-0000-0000-000000000000'
);
alter table log_head add constraint log_head_pkey primary key (only_row);
alter table log_head add constraint log_head_hash_check check (length(hash) = 32);
alter table log_head add constraint log_head_only_row_check check (only_row);

insert into log_head (position, hash, recorded_at) values (0, decode(repeat('00', 32), 'hex'), '-infinity');

insert into table_access values
    ('log_head', 'log', 'select, update'),
    ('log_head', 'work', 'select');
select protect_table('log_head');
