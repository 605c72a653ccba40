-- Read model: the costs of all calls of a campaign.
create table campaign_costs (
    company_id  uuid    not null,
    campaign_id uuid    not null,
    call_count  bigint  not null,
    cost        numeric not null
);
alter table campaign_costs add constraint campaign_costs_pkey primary key (company_id, campaign_id);

insert into table_access values
    ('campaign_costs', 'app', 'select'),
    ('campaign_costs', 'work', 'select, insert, update, delete');
select protect_table('campaign_costs');
