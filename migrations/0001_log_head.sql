-- Where the log ends. One row; whoever appends locks it, so that positions are given out in commit order and without a gap.
create table log_head (
    only_row    boolean     primary key default true check (only_row),
    -- Position of the last event; 0 while the log is empty.
    position    bigint      not null,
    -- Hash of the last event; 32 zero bytes while the log is empty.
    hash        bytea       not null check (length(hash) = 32),
    -- recorded_at of the last event: the log's clock never goes back, whatever the server's does.
    recorded_at timestamptz not null
);

insert into log_head (position, hash, recorded_at) values (0, decode(repeat('00', 32), 'hex'), '-infinity');
