-- Read model: price lists.
create table price_lists (
    company_id     uuid        not null,
    price_list_id  uuid        not null,
    name           text        not null,
    effective_from timestamptz not null,
    rates          jsonb       not null,
    -- Of two lists with the same effective_from the one with the higher position is in force.
    position       bigint      not null,
    created_at     timestamptz not null,
    primary key (company_id, price_list_id)
);
create index price_lists_in_force on price_lists (company_id, effective_from desc, position desc);
