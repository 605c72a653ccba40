-- Acquires a slot for a task. `answer` is 'ok', or the reason why not: 'concurrency', 'rate', 'taken' (the task has a slot). Claims of one
-- campaign are processed one after the other. `taken` identifies this acquisition among all acquisitions of the slot. `is_shared`: the slot
-- existed, and another run of the same claim may hold it as well.
create function take_claim_slot(
    p_company uuid, p_campaign uuid, p_task uuid, p_call uuid, p_max_concurrent bigint, p_per_minute bigint, p_process text,
    out answer text, out taken timestamptz, out is_shared boolean
) language plpgsql as $$
declare
    v_now timestamptz;
begin
    perform pg_advisory_xact_lock(hashtextextended(current_schema() || p_campaign::text, 0));
    v_now := clock_timestamp();
    -- The same claim again, perhaps from another process. While its first try may still come into the log, the call has no second slot.
    update claim_slots set taken_by = p_process, taken_at = greatest(v_now, taken_at + interval '1 microsecond')
     where call_id = p_call and task_id = p_task and released_at is null
    returning taken_at into taken;
    is_shared := found;
    if found then answer := 'ok'; return; end if;
    answer := 'taken';
    if exists (select from claim_slots where call_id = p_call and released_at is null) then return; end if;
    delete from claim_slots where call_id = p_call and confirmed_at is null;
    if exists (select from claim_slots where call_id = p_call) then return; end if;
    if exists (select from claim_slots where task_id = p_task and released_at is null) then return; end if;
    answer := 'concurrency';
    if (select count(*) from claim_slots where campaign_id = p_campaign and released_at is null) >= p_max_concurrent then return; end if;
    answer := 'rate';
    if (select count(*) from claim_slots where campaign_id = p_campaign
          and (confirmed_at > v_now - interval '60 seconds' or (confirmed_at is null and released_at is null))) >= p_per_minute then return; end if;
    insert into claim_slots (call_id, company_id, campaign_id, task_id, taken_at, taken_by) values (p_call, p_company, p_campaign, p_task, v_now, p_process);
    answer := 'ok';
    taken := v_now;
end $$;
