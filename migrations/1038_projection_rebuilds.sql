-- Rebuilds that are requested or in progress. The next tables, <table>__next, stand beside the live ones until they are swapped; the live
-- ones then stay as <table>__previous until the next rebuild.
create table projection_rebuilds (
    name           text        collate "C" not null,
    version        integer     not null,
    -- Position of the last event in the next tables; null until they exist.
    position       bigint,
    -- rebuild, restore: from the tables from before the last rebuild, comparison: the next tables are dropped at the end, and no process
    -- continues one that was cut off.
    purpose        text        not null default 'rebuild',
    requested_at   timestamptz not null default now(),
    error          text,
    holder         uuid,
    token          bigint      not null default 0,
    lease_until    timestamptz not null default '-infinity',
    -- When the process that works on it began, and at which position.
    began_at       timestamptz,
    began_position bigint
);
alter table projection_rebuilds add constraint projection_rebuilds_pkey primary key (name);
alter table projection_rebuilds add constraint projection_rebuilds_purpose_check check (purpose in ('rebuild', 'restore', 'comparison'));

insert into table_access values
    ('projection_rebuilds', 'work', 'select, insert, update, delete');
select protect_table('projection_rebuilds');
