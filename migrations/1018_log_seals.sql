-- Signed statements of what the log was at a position. A seal that is older than a forgery proves the forgery, even if the
-- hash chain was rewritten from there on or the end of the log was cut off.
create table log_seals (
    -- Position of the last event that the seal covers.
    position   bigint      not null,
    -- That event's hash.
    hash       bytea       not null,
    sealed_at  timestamptz not null,
    -- Ed25519 (RFC 8032): the signer, and the signature over the text that ARCHITECTURE.md defines.
    public_key bytea       not null,
    signature  bytea       not null
);
alter table log_seals add constraint log_seals_pkey primary key (position);
alter table log_seals add constraint log_seals_hash_check check (length(hash) = 32);
alter table log_seals add constraint log_seals_position_check check (position > 0);
alter table log_seals add constraint log_seals_public_key_check check (length(public_key) = 32);
alter table log_seals add constraint log_seals_signature_check check (length(signature) = 64);
create trigger log_seals_append_only before delete or update on log_seals for each row execute function refuse_change();
create trigger log_seals_no_truncate before truncate on log_seals for each statement execute function refuse_change();

insert into table_access values
    ('log_seals', 'log', 'select, insert');
select protect_table('log_seals');
