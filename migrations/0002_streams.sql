-- One row per stream, with how many events it has.
create table streams (
    -- <category>-<uuid>
    stream     text collate "C" primary key,
    -- Owner; a stream never changes it.
    company_id uuid   not null,
    -- Version of the stream's last event, from 1.
    version    bigint not null check (version > 0)
);
