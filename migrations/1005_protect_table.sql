-- Restricts a table to companies, if its rows belong to companies, and gives the service roles their rights. A rebuilt table has the rights of
-- the table whose name it will get. The sub-selects of the policy are evaluated once per statement, not for each row.
create function protect_table(p_table text) returns void language plpgsql as $$
declare a record;
begin
    if exists (select from pg_attribute where attrelid = to_regclass(quote_ident(p_table)) and attname = 'company_id' and not attisdropped) then
        execute format('alter table %I enable row level security', p_table);
        execute format('alter table %I force row level security', p_table);
        execute format('drop policy if exists company on %I', p_table);
        execute format('create policy company on %I using (company_id = (select current_company()) or (select sees_every_company()))
                                                    with check (company_id = (select current_company()) or (select sees_every_company()))', p_table);
    end if;
    for a in select * from table_access where table_name = regexp_replace(p_table, '__(next|previous)$', '') loop
        if to_regrole(quote_ident(service_role(a.role))) is not null then
            execute format('grant %s on %I to %I', a.privileges, p_table, service_role(a.role));
        end if;
    end loop;
end $$;
