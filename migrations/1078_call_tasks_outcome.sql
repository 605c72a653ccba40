-- The list of a campaign's tasks is filtered by outcome. The next and the previous tables of rebuilds lack the index.
create index call_tasks_outcome on call_tasks (company_id, campaign_id, outcome, position desc) where outcome is not null;
drop table if exists call_tasks__next, call_tasks__previous, campaign_stats__next, campaign_stats__previous cascade;
delete from projection_rebuilds where name = 'call_tasks';
update projection_checkpoints set previous_position = null, previous_version = null where name = 'call_tasks';
