-- Operators run the installation: they rebuild, restore and retry projections. Companies' admins do not.
alter table user_credentials
    add column operator_since timestamptz,
    -- When a registration stored these credentials, while its events are not in the log yet: nothing can be done with them until then.
    add column pending_since  timestamptz;
