-- One row per stream, with the number of its events. Versions change with every append: free room on the page keeps such a change from
-- touching the index.
create table streams (
    -- <category>-<uuid>
    stream     text   collate "C" not null,
    -- The owner; it never changes.
    company_id uuid   not null,
    -- Version of the stream's last event, from 1.
    version    bigint not null
) with (fillfactor = 80);
alter table streams add constraint streams_pkey primary key (stream);
alter table streams add constraint streams_version_check check (version > 0);

insert into table_access values
    ('streams', 'log', 'select, insert, update');
select protect_table('streams');
