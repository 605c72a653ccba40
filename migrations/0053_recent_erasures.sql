-- The companies of the last 64 erasures, the newest last: a process removes from its memory only what it has cached about these companies.
alter table erasures add column recent uuid[] not null default '{}';
