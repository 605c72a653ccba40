-- Read model: changes of bills by price lists that were published for a past time.
create table call_repricings (
    company_id    uuid        not null,
    call_id       uuid        not null,
    -- Position of the publication in the log.
    position      bigint      not null,
    price_list_id uuid        not null,
    repriced_at   timestamptz not null,
    -- [{component, provider?, cost_before, cost_after, price_lists_before: [id]}]
    changes       jsonb       not null
);
alter table call_repricings add constraint call_repricings_pkey primary key (company_id, call_id, position);

insert into table_access values
    ('call_repricings', 'app', 'select'),
    ('call_repricings', 'work', 'select, insert, update, delete');
select protect_table('call_repricings');
