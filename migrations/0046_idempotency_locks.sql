-- Which process runs a keyed request. If it has ended, or runs the request no longer, the same request need not wait for `locked_until`.
alter table idempotency_keys add column locked_by text;
