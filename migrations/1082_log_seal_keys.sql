-- Which key seals the log after which: each key is named by the one before.
create table log_seal_keys (
    -- Ed25519 (RFC 8032): the new key.
    public_key       bytea       not null,
    -- The key before it.
    named_by         bytea       not null,
    named_at         timestamptz not null,
    -- The signatures of the earlier and of the new key over the text that `eventstore/src/seal/succession.rs` defines.
    signature        bytea       not null,
    countersignature bytea       not null
);
alter table log_seal_keys add constraint log_seal_keys_pkey primary key (public_key, signature);
alter table log_seal_keys add constraint log_seal_keys_public_key_check check (length(public_key) = 32);
alter table log_seal_keys add constraint log_seal_keys_named_by_check check (length(named_by) = 32);
alter table log_seal_keys add constraint log_seal_keys_signature_check check (length(signature) = 64);
alter table log_seal_keys add constraint log_seal_keys_countersignature_check check (length(countersignature) = 64);
create trigger log_seal_keys_append_only before delete or update on log_seal_keys for each row execute function refuse_change();
create trigger log_seal_keys_no_truncate before truncate on log_seal_keys for each statement execute function refuse_change();

insert into table_access values
    ('log_seal_keys', 'log', 'select');
select protect_table('log_seal_keys');
