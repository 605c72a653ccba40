-- The audit is filtered by a path and the paths below it. They are a range only in an order by code points.
drop index audit_log_path;
create index audit_log_path on audit_log (company_id, path collate "C", at desc, audit_id desc);
