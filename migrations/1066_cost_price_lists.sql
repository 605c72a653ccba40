-- Read model: the price lists that the bills have included so far. A projection must not read the tables of another one.
create table cost_price_lists (
    company_id     uuid        not null,
    price_list_id  uuid        not null,
    effective_from timestamptz not null,
    position       bigint      not null,
    rates          jsonb       not null
);
alter table cost_price_lists add constraint cost_price_lists_pkey primary key (company_id, price_list_id);

insert into table_access values
    ('cost_price_lists', 'app', 'select'),
    ('cost_price_lists', 'work', 'select, insert, update, delete');
select protect_table('cost_price_lists');
