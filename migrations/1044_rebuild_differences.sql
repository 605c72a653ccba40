-- All rows that are only in the live table (side 'live') or only in the next one (side 'rebuilt').
create function rebuild_differences(p_table text) returns table (side text, content jsonb) language plpgsql as $$
begin
    return query execute format(
        '(select ''live'', to_jsonb(d) from (select * from %1$I.%2$I except all select * from %1$I.%3$I) d)
         union all
         (select ''rebuilt'', to_jsonb(d) from (select * from %1$I.%3$I except all select * from %1$I.%2$I) d)',
        current_schema(), p_table, p_table || '__next');
end $$;
