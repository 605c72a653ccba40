-- The ledger has one row per call: what it costs by component, and the lines of its bill.
alter table cost_calls
    add column cost_stt     numeric not null default 0,
    add column cost_llm     numeric not null default 0,
    add column cost_tts     numeric not null default 0,
    add column cost_livekit numeric not null default 0,
    -- [{component, provider?, cost, usage: [{model?, price_list_id?, quantity, priced}]}]: by component and provider, with what
    -- was used under which price list; decimals as strings.
    add column lines        jsonb   not null default '[]',
    -- Whether it used something that its price list has no rate for.
    add column has_unpriced boolean not null default false;
update cost_calls c
   set lines = l.lines, cost_stt = l.stt, cost_llm = l.llm, cost_tts = l.tts, cost_livekit = l.livekit, has_unpriced = l.has_unpriced
  from (select k.company_id, k.call_id,
               jsonb_agg(jsonb_strip_nulls(jsonb_build_object('component', k.component, 'provider', nullif(k.provider, ''), 'cost', k.cost::text,
                                                              'usage', u.usage)) order by k.component, k.provider) as lines,
               coalesce(sum(k.cost) filter (where k.component = 'stt'), 0) as stt,
               coalesce(sum(k.cost) filter (where k.component in ('llm_input', 'llm_output')), 0) as llm,
               coalesce(sum(k.cost) filter (where k.component = 'tts'), 0) as tts,
               coalesce(sum(k.cost) filter (where k.component = 'livekit'), 0) as livekit, bool_or(u.has_unpriced) as has_unpriced
          from call_costs k,
               lateral (select jsonb_agg(jsonb_strip_nulls(jsonb_build_object('model', nullif(model, ''),
                                   'price_list_id', nullif(price_list_id, '00000000-0000-0000-0000-000000000000'),
                                   'quantity', quantity::text, 'priced', priced)) order by model, price_list_id) as usage,
                               bool_or(not priced and quantity > 0) as has_unpriced
                          from call_usage u
                         where (u.company_id, u.call_id, u.component, u.provider) = (k.company_id, k.call_id, k.component, k.provider)) u
         group by 1, 2) l
 where c.company_id = l.company_id and c.call_id = l.call_id;
drop table call_usage;
drop table call_costs;
create index cost_calls_unpriced on cost_calls (company_id, started_at) where has_unpriced;

-- Read model: calls whose bill changed because a price list was published for a time that had passed: what, from, to and why.
create table call_repricings (
    company_id    uuid        not null,
    call_id       uuid        not null,
    -- Of the publication in the log.
    position      bigint      not null,
    price_list_id uuid        not null,
    repriced_at   timestamptz not null,
    -- [{component, provider?, cost_before, cost_after, price_lists_before: [id]}]
    changes       jsonb       not null,
    primary key (company_id, call_id, position)
);

-- Read model: what all of a campaign's calls cost.
create table campaign_costs (
    company_id  uuid    not null,
    campaign_id uuid    not null,
    call_count  bigint  not null,
    cost        numeric not null,
    primary key (company_id, campaign_id)
);
insert into campaign_costs
select company_id, campaign_id, sum(call_count), trim_scale(sum(cost)) from cost_rollups
 where campaign_id <> '00000000-0000-0000-0000-000000000000' group by 1, 2 having sum(call_count) > 0;

drop table if exists cost_calls__previous, call_usage__previous, call_costs__previous, cost_rollups__previous, cost_price_lists__previous,
    cost_calls__next, call_usage__next, call_costs__next, cost_rollups__next, cost_price_lists__next;
