-- Drops the tables of a read model and its checkpoint, so that the same migration can create the tables with another shape. The projection then
-- folds the log from its first event.
create function drop_read_model(p_name text, p_tables text[]) returns void language plpgsql as $$
declare t text;
begin
    foreach t in array p_tables loop
        execute format('drop table if exists %I, %I, %I cascade', t, t || '__next', t || '__previous');
    end loop;
    delete from projection_rebuilds where name = p_name;
    delete from projection_checkpoints where name = p_name;
end $$;
