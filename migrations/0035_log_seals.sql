-- Signed statements of what the log was: whoever has one that is older than a forgery can show it, even where the forger
-- rewrote the chain from there on or cut the log's tail off.
create table log_seals (
    -- Of the last event that the seal covers.
    position   bigint      primary key check (position > 0),
    -- That event's hash.
    hash       bytea       not null check (length(hash) = 32),
    sealed_at  timestamptz not null,
    -- Ed25519 (RFC 8032): who signed, and the signature over the text that ARCHITECTURE.md defines.
    public_key bytea       not null check (length(public_key) = 32),
    signature  bytea       not null check (length(signature) = 64)
);

create trigger log_seals_append_only before update or delete on log_seals for each row execute function refuse_change();
create trigger log_seals_no_truncate before truncate on log_seals for each statement execute function refuse_change();
