-- Read model: users, without their secrets.
create table users (
    company_id uuid        not null,
    user_id    uuid        not null,
    email      text        not null,
    role       text        not null,
    created_at timestamptz not null,
    -- The envelope of the address, as in the log: {person_id, data}. The column has a placeholder.
    personal   jsonb,
    -- invited, active, disabled
    status     text        not null,
    -- Whether the user was ever active.
    joined     boolean     not null
);
alter table users add constraint users_pkey primary key (company_id, user_id);
create index users_newest on users (company_id, created_at desc, user_id desc);

insert into table_access values
    ('users', 'app', 'select'),
    ('users', 'work', 'select, insert, update, delete');
select protect_table('users');
