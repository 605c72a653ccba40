-- Read model: all versions of skillbases; they stay when a skillbase is deleted.
create table skillbase_versions (
    company_id   uuid        not null,
    skillbase_id uuid        not null,
    version      integer     not null,
    name         text        not null,
    slug         text        not null,
    config       jsonb       not null,
    created_at   timestamptz not null
);
alter table skillbase_versions add constraint skillbase_versions_pkey primary key (company_id, skillbase_id, version);

insert into table_access values
    ('skillbase_versions', 'app', 'select'),
    ('skillbase_versions', 'work', 'select, insert, update, delete');
select protect_table('skillbase_versions');
