-- Read model: users, without their secrets.
create table users (
    company_id uuid        not null,
    user_id    uuid        not null,
    email      text        not null,
    role       text        not null,
    created_at timestamptz not null,
    primary key (company_id, user_id)
);
