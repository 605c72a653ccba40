-- The name of a service role of this installation: <schema>_<role>_<hash of the database's name>. The platform creates the roles when it
-- starts (eventstore/src/database/roles.rs). The API reads as `app`, which sees one company at a time: the one that its transaction has named
-- in newvoice.company_id. `log` appends to the log and reads it, `work` runs projections and workers, `identity` checks credentials. None of
-- them owns anything.
create function service_role(p_role text) returns text language sql stable as
$$ select current_schema() || '_' || p_role || '_' || left(md5(current_database()), 8) $$;
