-- Whether the company has put the task back after it had failed. The next and the previous tables of rebuilds lack the column.
alter table call_tasks add column was_reopened boolean not null default false;
create index call_tasks_reopened on call_tasks (company_id, campaign_id) where was_reopened;
drop table if exists call_tasks__next, call_tasks__previous, campaign_stats__next, campaign_stats__previous cascade;
delete from projection_rebuilds where name = 'call_tasks';
update projection_checkpoints set previous_position = null, previous_version = null where name = 'call_tasks';
