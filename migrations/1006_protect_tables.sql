-- Protects all tables. The platform calls it at every start, when its roles exist.
create function protect_tables() returns void language plpgsql as $$
declare t text; r text;
begin
    foreach r in array array['app', 'identity', 'log', 'work'] loop
        if to_regrole(quote_ident(service_role(r))) is not null then
            execute format('grant usage on schema %I to %I', current_schema(), service_role(r));
        end if;
    end loop;
    for t in select relname from pg_class where relnamespace = current_schema()::regnamespace and relkind in ('r', 'p', 'v') and relname <> '_sqlx_migrations' loop
        perform protect_table(t);
    end loop;
end $$;
