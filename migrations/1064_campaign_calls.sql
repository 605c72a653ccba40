-- Read model: sums over all calls of a campaign, so that a read costs the same however long the campaign has been running.
create table campaign_calls (
    company_id   uuid    not null,
    campaign_id  uuid    not null,
    call_count   bigint  not null,
    ended_count  bigint  not null,
    duration_sec numeric not null
);
alter table campaign_calls add constraint campaign_calls_pkey primary key (company_id, campaign_id);

insert into table_access values
    ('campaign_calls', 'app', 'select'),
    ('campaign_calls', 'work', 'select, insert, update, delete');
select protect_table('campaign_calls');
