-- Read model: skillbases in their present state.
create table skillbases (
    company_id     uuid        not null,
    skillbase_id   uuid        not null,
    name           text        not null,
    slug           text        not null,
    config         jsonb       not null,
    -- Of the configuration.
    version        integer     not null,
    stream_version bigint      not null,
    created_at     timestamptz not null,
    updated_at     timestamptz not null
);
alter table skillbases add constraint skillbases_pkey primary key (company_id, skillbase_id);
create index skillbases_newest on skillbases (company_id, created_at desc, skillbase_id desc);

insert into table_access values
    ('skillbases', 'app', 'select'),
    ('skillbases', 'work', 'select, insert, update, delete');
select protect_table('skillbases');
