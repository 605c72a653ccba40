-- Read model: every version a skillbase has had; they stay when it is deleted.
create table skillbase_versions (
    company_id   uuid        not null,
    skillbase_id uuid        not null,
    version      integer     not null,
    name         text        not null,
    slug         text        not null,
    config       jsonb       not null,
    created_at   timestamptz not null,
    primary key (company_id, skillbase_id, version)
);
