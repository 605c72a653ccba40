-- Read model: companies.
create table companies (
    company_id uuid primary key,
    name       text        not null,
    slug       text        not null,
    email      text,
    version    bigint      not null, -- of the stream
    created_at timestamptz not null,
    updated_at timestamptz not null
);
