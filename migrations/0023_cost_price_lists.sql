-- The price lists as far as the cost ledger has read them; it must not look at another projection's tables.
create table cost_price_lists (
    company_id     uuid        not null,
    price_list_id  uuid        not null,
    effective_from timestamptz not null,
    position       bigint      not null,
    rates          jsonb       not null,
    primary key (company_id, price_list_id)
);
