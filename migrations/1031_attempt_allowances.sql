-- How many attempts to log in or to register are left, by keyed hash of who tries and for what: a number at once, then one after the other
-- (GCRA, a leaky bucket that stores one time). A refused attempt changes nothing, so that a client cannot keep others out by trying.
create table attempt_allowances (
    subject bytea       not null,
    -- When all attempts are given again.
    full_at timestamptz not null
);
alter table attempt_allowances add constraint attempt_allowances_pkey primary key (subject);

insert into table_access values
    ('attempt_allowances', 'identity', 'select, insert, update, delete');
select protect_table('attempt_allowances');
