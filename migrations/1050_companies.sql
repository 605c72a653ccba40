-- Read model: companies.
create table companies (
    company_id uuid        not null,
    name       text        not null,
    slug       text        not null,
    email      text,
    -- Of the stream.
    version    bigint      not null,
    created_at timestamptz not null,
    updated_at timestamptz not null
);
alter table companies add constraint companies_pkey primary key (company_id);

insert into table_access values
    ('companies', 'app', 'select'),
    ('companies', 'work', 'select, insert, update, delete');
select protect_table('companies');
