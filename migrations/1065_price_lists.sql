-- Read model: price lists.
create table price_lists (
    company_id     uuid        not null,
    price_list_id  uuid        not null,
    name           text        not null,
    effective_from timestamptz not null,
    rates          jsonb       not null,
    -- Of two lists with the same effective_from, the one with the higher position is in force.
    position       bigint      not null,
    created_at     timestamptz not null
);
alter table price_lists add constraint price_lists_pkey primary key (company_id, price_list_id);
create index price_lists_in_force on price_lists (company_id, effective_from desc, position desc);

insert into table_access values
    ('price_lists', 'app', 'select'),
    ('price_lists', 'work', 'select, insert, update, delete');
select protect_table('price_lists');
