-- Whether the present role is a service role that sees every company, or the owner of the log. protect_tables() replaces it by comparisons
-- with the names of this installation's roles: it is evaluated for each row.
create function sees_every_company() returns boolean language sql stable parallel safe as $$ select false $$;
