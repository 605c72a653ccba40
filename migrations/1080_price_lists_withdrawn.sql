-- A price list can be withdrawn. The ledger keeps its row: repricings of the past name it. The next and the previous tables of rebuilds lack
-- the columns.
alter table price_lists add column withdrawn_at timestamptz;
alter table cost_price_lists add column is_withdrawn boolean not null default false;
drop table if exists price_lists__next, price_lists__previous, cost_price_lists__next, cost_price_lists__previous, cost_rollups__next,
    cost_rollups__previous, cost_calls__next, cost_calls__previous, call_repricings__next, call_repricings__previous,
    campaign_costs__next, campaign_costs__previous cascade;
delete from projection_rebuilds where name in ('price_lists', 'cost_rollups');
update projection_checkpoints set previous_position = null, previous_version = null where name in ('price_lists', 'cost_rollups');
