-- Skillbases: a description, whether campaigns may start with it, and whether the company has published it. The next and the previous tables of rebuilds lack the columns.
alter table skillbases add column description text, add column is_active boolean not null default true,
                       add column is_published boolean not null default false;
drop table if exists skillbases__next, skillbases__previous, skillbase_versions__next, skillbase_versions__previous cascade;
delete from projection_rebuilds where name = 'skillbases';
update projection_checkpoints set previous_position = null, previous_version = null where name = 'skillbases';
