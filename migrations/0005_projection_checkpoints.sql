-- How far each projection has read the log, and which process runs it.
create table projection_checkpoints (
    name           text collate "C" primary key,
    -- Of the projection's code that wrote the tables.
    version        integer     not null,
    -- Last position that is in the tables.
    position       bigint      not null,
    -- Set when an event could not be applied: where and why. The projection stands still until someone says retry.
    error_position bigint,
    error          text,
    -- The process that runs it, until when, and the fencing token that every write must show.
    holder         uuid,
    token          bigint      not null default 0,
    lease_until    timestamptz not null default '-infinity',
    updated_at     timestamptz not null default now()
);
