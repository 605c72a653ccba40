-- Refusals that repeat within a minute are one entry that counts them.
alter table audit_log add column count integer not null default 1;
update table_access set privileges = 'select, insert, update, delete' where table_name = 'audit_log' and role = 'identity';
select protect_table('audit_log');
