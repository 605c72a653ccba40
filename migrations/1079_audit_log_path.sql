-- The audit is filtered by path.
create index audit_log_path on audit_log (company_id, path, at desc, audit_id desc);
