-- Which process took a claim slot or a projection's lease. A process tags all of its connections with a name of its own
-- (`application_name`, followed by what the connection is for) and always has some. A process without a connection has ended: its slots and leases can be
-- reclaimed at once.
create function is_process_gone(p_process text) returns boolean language sql stable as
$$ select p_process is not null and not exists (
       select from pg_catalog.pg_stat_activity where datname = current_database() and starts_with(application_name || ' ', p_process || ' ')) $$;

alter table claim_slots add column taken_by text;
alter table projection_checkpoints add column holder_process text;

drop function take_claim_slot(uuid, uuid, uuid, uuid, bigint, bigint);

-- Takes a slot for a task, or says why not: 'concurrency', 'rate', 'taken' (the task has one), else 'ok'. Claims of one campaign
-- are processed one after the other.
create function take_claim_slot(
    p_company uuid, p_campaign uuid, p_task uuid, p_call uuid, p_max_concurrent bigint, p_per_minute bigint, p_process text
) returns text language plpgsql as $$
declare
    v_now timestamptz;
begin
    perform pg_advisory_xact_lock(hashtextextended(current_schema() || p_campaign::text, 0));
    v_now := clock_timestamp();
    -- The same claim again, perhaps from another process. While its first try may still come into the log, the call has no second slot.
    -- It renews the moment of its taking: a process that resolves an abandoned slot says which taking it has seen.
    update claim_slots set taken_by = p_process, taken_at = v_now where call_id = p_call and task_id = p_task and released_at is null;
    if found then return 'ok'; end if;
    if exists (select from claim_slots where call_id = p_call and released_at is null) then return 'taken'; end if;
    delete from claim_slots where call_id = p_call and confirmed_at is null;
    if exists (select from claim_slots where call_id = p_call) then return 'taken'; end if;
    if exists (select from claim_slots where task_id = p_task and released_at is null) then return 'taken'; end if;
    if (select count(*) from claim_slots where campaign_id = p_campaign and released_at is null) >= p_max_concurrent then return 'concurrency'; end if;
    if (select count(*) from claim_slots where campaign_id = p_campaign
          and (confirmed_at > v_now - interval '60 seconds' or (confirmed_at is null and released_at is null))) >= p_per_minute then return 'rate'; end if;
    insert into claim_slots (call_id, company_id, campaign_id, task_id, taken_at, taken_by) values (p_call, p_company, p_campaign, p_task, v_now, p_process);
    return 'ok';
end $$;
