-- The company to which this transaction is restricted, if it has named one.
create function current_company() returns uuid language sql stable parallel safe as
$$ select nullif(current_setting('newvoice.company_id', true), '')::uuid $$;
