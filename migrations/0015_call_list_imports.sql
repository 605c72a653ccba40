-- Read model: call lists that were uploaded and what came of them.
create table call_list_imports (
    company_id  uuid        not null,
    import_id   uuid        not null,
    campaign_id uuid        not null,
    file_name   text        not null,
    total       bigint      not null,
    created     bigint      not null,
    error_count bigint      not null,
    errors      text[]      not null,
    imported_at timestamptz not null,
    primary key (company_id, import_id)
);
create index call_list_imports_newest on call_list_imports (company_id, campaign_id, imported_at desc, import_id desc);
