-- Read model: what each call costs, by component and provider; exact.
create table call_costs (
    company_id uuid    not null,
    call_id    uuid    not null,
    component  text    not null,
    -- Empty when the turns named none.
    provider   text    not null,
    cost       numeric not null,
    primary key (company_id, call_id, component, provider)
);
