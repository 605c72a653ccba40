-- The log's partitions: positions from `first` to before `beyond`. The view has no rights but those of who asks.
create view event_partitions with (security_invoker = true) as
select c.relname::text as name,
       (regexp_match(pg_get_expr(c.relpartbound, c.oid), $r$FROM \('?(\d+)'?\)$r$))[1]::bigint as first,
       (regexp_match(pg_get_expr(c.relpartbound, c.oid), $r$TO \('?(\d+)'?\)$r$))[1]::bigint as beyond
  from pg_inherits i join pg_class c on c.oid = i.inhrelid
 where i.inhparent = 'events'::regclass;

insert into table_access values
    ('event_partitions', 'log', 'select'),
    ('event_partitions', 'work', 'select');
select protect_table('event_partitions');
