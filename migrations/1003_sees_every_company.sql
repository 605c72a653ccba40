-- Whether the present role is a service role that sees every company, or the owner of the log. The schema's name is written into the
-- function, so that it depends on no search path.
do $do$
begin
    execute format($create$
        create function sees_every_company() returns boolean language sql stable parallel safe as
        $$ select current_user in (%1$L || '_log_' || left(md5(current_database()), 8), %1$L || '_work_' || left(md5(current_database()), 8),
                                   %1$L || '_identity_' || left(md5(current_database()), 8))
               or pg_has_role(current_user, (select c.relowner from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
                                              where n.nspname = %1$L and c.relname = 'log_head'), 'usage') $$
        $create$, current_schema());
end $do$;
