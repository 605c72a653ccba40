-- Read model: uploaded call lists and the results of their import.
create table call_list_imports (
    company_id  uuid        not null,
    import_id   uuid        not null,
    campaign_id uuid        not null,
    file_name   text        not null,
    total       bigint      not null,
    created     bigint      not null,
    error_count bigint      not null,
    errors      text[]      not null,
    imported_at timestamptz not null
);
alter table call_list_imports add constraint call_list_imports_pkey primary key (company_id, import_id);
create index call_list_imports_newest on call_list_imports (company_id, campaign_id, imported_at desc, import_id desc);

insert into table_access values
    ('call_list_imports', 'app', 'select'),
    ('call_list_imports', 'work', 'select, insert, update, delete');
select protect_table('call_list_imports');
