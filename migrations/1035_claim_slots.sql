-- Slots keep a campaign within its limits across all processes: a claim acquires a slot before it is appended to the log, and the result of
-- the attempt releases it. The log decides; a slot that a crash has left is released later.
create table claim_slots (
    call_id      uuid        not null,
    company_id   uuid        not null,
    campaign_id  uuid        not null,
    task_id      uuid        not null,
    -- Identifies this acquisition: the same claim may acquire its slot several times.
    taken_at     timestamptz not null,
    -- When the claim was in the log; a slot without it counts as just acquired.
    confirmed_at timestamptz,
    -- When a dialer last reported that it works on the call; outside workers show it by the call's events.
    alive_at     timestamptz,
    -- When the attempt ended.
    released_at  timestamptz,
    -- The process that acquired it.
    taken_by     text
);
alter table claim_slots add constraint claim_slots_pkey primary key (call_id);
create index claim_slots_open on claim_slots (campaign_id) where released_at is null;
create index claim_slots_recent on claim_slots (campaign_id, confirmed_at);
create unique index claim_slots_task on claim_slots (task_id) where released_at is null;

insert into table_access values
    ('claim_slots', 'work', 'select, insert, update, delete');
select protect_table('claim_slots');
