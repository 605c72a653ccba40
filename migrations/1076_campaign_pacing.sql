-- How many attempts of a campaign are in progress, how many began within the last 60 s, how many retries are due, and when the next one is.
-- Companies read their own slots.
insert into table_access values
    ('claim_slots', 'app', 'select');
select protect_table('claim_slots');
create function campaign_pacing(p_company uuid, p_campaign uuid)
    returns table (in_progress bigint, claims_last_60s bigint, due_retries bigint, next_due_at timestamptz) language sql stable as $$
    select (select count(*) from claim_slots where company_id = p_company and campaign_id = p_campaign and released_at is null),
           (select count(*) from claim_slots where company_id = p_company and campaign_id = p_campaign
               and confirmed_at > now() - interval '60 seconds'),
           (select count(*) from call_tasks where company_id = p_company and campaign_id = p_campaign
               and status = 'retry' and next_attempt_at <= now()),
           (select min(next_attempt_at) from call_tasks where company_id = p_company and campaign_id = p_campaign
               and status = 'retry' and next_attempt_at > now())
$$;
