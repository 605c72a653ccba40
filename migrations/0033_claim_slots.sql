-- Slots that keep a campaign within its limits, across all processes: a claim takes one before it is appended to the log
-- and the result of the attempt gives it back. What the log says counts; a slot left over by a crash is given back later.
create table claim_slots (
    call_id      uuid primary key,
    company_id   uuid        not null,
    campaign_id  uuid        not null,
    task_id      uuid        not null,
    taken_at     timestamptz not null,
    -- When the claim was in the log; until then it counts as just made.
    confirmed_at timestamptz,
    -- When a dialer last said that it is at work on the call; outside workers show it by the call's events.
    alive_at     timestamptz,
    -- When the attempt ended.
    released_at  timestamptz
);
create index claim_slots_open on claim_slots (campaign_id) where released_at is null;
create index claim_slots_recent on claim_slots (campaign_id, confirmed_at);
create unique index claim_slots_task on claim_slots (task_id) where released_at is null;

-- Takes a slot for a task, or says why not: 'concurrency', 'rate', 'taken' (the task has one), else 'ok'. Claims of one campaign
-- go one after the other.
create function take_claim_slot(
    p_company uuid, p_campaign uuid, p_task uuid, p_call uuid, p_max_concurrent bigint, p_per_minute bigint
) returns text language plpgsql as $$
declare
    v_now timestamptz;
begin
    perform pg_advisory_xact_lock(hashtextextended(current_schema() || p_campaign::text, 0));
    v_now := clock_timestamp();
    -- The same claim again. While its first try may still come into the log, the call has no second slot.
    if exists (select from claim_slots where call_id = p_call and task_id = p_task and released_at is null) then return 'ok'; end if;
    if exists (select from claim_slots where call_id = p_call and released_at is null) then return 'taken'; end if;
    delete from claim_slots where call_id = p_call and confirmed_at is null;
    if exists (select from claim_slots where call_id = p_call) then return 'taken'; end if;
    if exists (select from claim_slots where task_id = p_task and released_at is null) then return 'taken'; end if;
    if (select count(*) from claim_slots where campaign_id = p_campaign and released_at is null) >= p_max_concurrent then return 'concurrency'; end if;
    if (select count(*) from claim_slots where campaign_id = p_campaign
          and (confirmed_at > v_now - interval '60 seconds' or (confirmed_at is null and released_at is null))) >= p_per_minute then return 'rate'; end if;
    insert into claim_slots (call_id, company_id, campaign_id, task_id, taken_at) values (p_call, p_company, p_campaign, p_task, v_now);
    return 'ok';
end $$;
