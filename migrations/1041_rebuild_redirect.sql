-- Lets this session see the next tables under the names of the live ones: temporary views come first in every search path, and simple views
-- can be written through. So the projection's own statements fill the next tables, unchanged.
create function rebuild_redirect(p_tables text[]) returns void language plpgsql as $$
declare t text;
begin
    foreach t in array p_tables loop
        execute format('create or replace temporary view %I as select * from %I.%I', t, current_schema(), t || '__next');
    end loop;
end $$;
