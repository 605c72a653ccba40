-- Whether a process has ended. A process gives all of its connections a name of its own (`application_name`, followed by their purpose) and
-- always has some; its claim slots and leases can be taken over as soon as it has none.
create function is_process_gone(p_process text) returns boolean language sql stable as
$$ select p_process is not null and not exists (
       select from pg_catalog.pg_stat_activity where datname = current_database() and starts_with(application_name || ' ', p_process || ' ')) $$;
