-- The networks from which users have logged in, by keyed hash of user and network: attempts from there do not count against the user's
-- address.
create table known_networks (
    subject bytea       not null,
    last_at timestamptz not null
);
alter table known_networks add constraint known_networks_pkey primary key (subject);

insert into table_access values
    ('known_networks', 'identity', 'select, insert, update, delete');
select protect_table('known_networks');
