-- The number of erased persons: when it has changed, each process removes what it has cached about the companies concerned.
create table erasures (
    only_row boolean not null default true,
    count    bigint  not null,
    -- The companies of the last 64 erasures, the newest last.
    recent   uuid[]  not null default '{}'
);
alter table erasures add constraint erasures_pkey primary key (only_row);
alter table erasures add constraint erasures_only_row_check check (only_row);

insert into erasures (count) values (0);

insert into table_access values
    ('erasures', 'log', 'select, update');
select protect_table('erasures');
