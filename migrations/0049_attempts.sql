-- How many attempts to log in or to register are given, by keyed hash of whom and what they are counted for: so many at once, then one
-- after the other (GCRA, the leaky bucket that needs one moment only). An attempt that is refused changes nothing, so a client cannot keep others
-- out by trying on.
drop table login_failures;
create table attempt_allowances (
    subject bytea       primary key,
    -- When all attempts are given again.
    full_at timestamptz not null
);

-- From where users have logged in, by keyed hash of user and network: attempts from there do not count for the user's address.
create table known_networks (
    subject bytea       primary key,
    last_at timestamptz not null
);

insert into table_access values
    ('attempt_allowances', 'identity', 'select, insert, update, delete'),
    ('known_networks', 'identity', 'select, insert, update, delete');
delete from table_access where table_name = 'login_failures';
select protect_table(t) from unnest(array['attempt_allowances', 'known_networks']) t;

-- An address belongs to the user who has joined with it. Several companies may have open invitations to it; the first that is accepted has it.
alter table user_credentials drop constraint user_credentials_pkey;
alter table user_credentials drop constraint user_credentials_user_id_key;
alter table user_credentials add constraint user_credentials_pkey primary key (user_id);
create unique index user_credentials_joined on user_credentials (email_hash) where password_hash is not null;
create unique index user_credentials_of_company on user_credentials (company_id, email_hash);
