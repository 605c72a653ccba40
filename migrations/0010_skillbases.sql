-- Read model: skillbases as they are now.
create table skillbases (
    company_id     uuid        not null,
    skillbase_id   uuid        not null,
    name           text        not null,
    slug           text        not null,
    config         jsonb       not null,
    version        integer     not null, -- of the configuration
    stream_version bigint      not null,
    created_at     timestamptz not null,
    updated_at     timestamptz not null,
    primary key (company_id, skillbase_id)
);
create index skillbases_newest on skillbases (company_id, created_at desc, skillbase_id desc);
