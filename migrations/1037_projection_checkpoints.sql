-- How much of the log each projection has read, and which process runs it.
create table projection_checkpoints (
    name              text        collate "C" not null,
    -- Version of the projection that wrote the tables.
    version           integer     not null,
    -- Position of the last event in the tables.
    position          bigint      not null,
    -- Set if an event could not be applied. The projection then stands still until an operator has it tried again.
    error_position    bigint,
    error             text,
    -- The holder of the lease, and the fencing token that each of its writes must have.
    holder            uuid,
    token             bigint      not null default 0,
    lease_until       timestamptz not null default '-infinity',
    updated_at        timestamptz not null default now(),
    -- Position and version of the tables from before the last rebuild; null if there are none.
    previous_position bigint,
    previous_version  integer,
    -- The process of the holder.
    holder_process    text
);
alter table projection_checkpoints add constraint projection_checkpoints_pkey primary key (name);

insert into table_access values
    ('projection_checkpoints', 'app', 'select'),
    ('projection_checkpoints', 'work', 'select, insert, update, delete');
select protect_table('projection_checkpoints');
