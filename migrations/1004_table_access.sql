-- What each service role may do with each table. Read models are the tables that `work` writes and `app` only reads.
create table table_access (
    table_name text collate "C" not null,
    role       text not null,
    privileges text not null
);
alter table table_access add constraint table_access_pkey primary key (table_name, role);
