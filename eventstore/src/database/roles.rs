//! The roles under which the platform works, and their rights: see `migrations/1001_service_role.sql` and the end of each table's file.
//!
//! The schema's owner migrates, creates partitions and swaps rebuilt tables. All other work is done by roles that own nothing and that
//! row-level security confines. Their passwords are derived from the master key, so that all processes can compute them and no process
//! stores them.

use postgres_protocol::password::scram_sha_256;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection, Postgres, Transaction, postgres::PgConnectOptions};
use strum::IntoEnumIterator as _;
use uuid::Uuid;

use super::{health::DatabaseHealth, pool::Pool, settings::OpenError};
use crate::persons::MasterKey;

/// The name and the purpose of a role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::Display, strum::EnumIter)]
#[strum(serialize_all = "snake_case")]
pub enum ServiceRole {
    /// Reads one company's rows at a time.
    App,
    /// Checks credentials.
    Identity,
    /// Appends to the log and reads it.
    Log,
    /// Runs projections and workers.
    Work,
}

/// The purpose of a pool's connections. Tenants' requests and the platform's own work have separate connections: a company that sends many
/// requests delays neither commands nor projectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::Display)]
#[strum(serialize_all = "snake_case")]
pub enum Purpose {
    /// Reads of the read models.
    Reads,
    /// Reads of the log: histories, event lists, streams.
    History,
    /// Credentials, the audit.
    Identity,
    /// Commands: loading states, looking up persons' keys.
    Commands,
    /// Claims of tasks and results of attempts.
    Claims,
    /// Projectors, housekeeping, health.
    Work,
}

impl Purpose {
    const fn role(self) -> ServiceRole {
        match self {
            Self::Reads => ServiceRole::App,
            Self::History | Self::Commands => ServiceRole::Log,
            Self::Identity => ServiceRole::Identity,
            Self::Claims | Self::Work => ServiceRole::Work,
        }
    }

    /// Share of all connections of a process, in sixteenths.
    const fn share(self) -> u32 {
        match self {
            Self::Reads => 4,
            Self::Commands | Self::Work => 3,
            Self::History | Self::Identity | Self::Claims => 2,
        }
    }
}

/// Connections by purpose, under the service roles.
#[derive(Clone)]
pub struct Access {
    /// One company's rows at a time.
    reads: Pool,
    /// Sees every company.
    pub history: Pool,
    /// Sees every company.
    pub identity: Pool,
    /// Sees every company.
    pub commands: Pool,
    /// Sees every company.
    pub claims: Pool,
    /// Sees every company.
    pub work: Pool,
    pub(crate) log_options: PgConnectOptions,
    /// COPY is refused to roles that row-level security applies to.
    pub(crate) log_may_copy: bool,
}

impl Access {
    /// All connections as the owner: for tools whose user may do everything anyway.
    pub(super) fn as_owner(pool: &Pool, options: &PgConnectOptions) -> Self {
        let [reads, history, identity, commands, claims, work] = std::array::from_fn(|_| pool.clone());
        Self { reads, history, identity, commands, claims, work, log_options: options.clone(), log_may_copy: false }
    }

    /// Connections under the service roles, which exist already.
    pub(super) async fn open(
        roles: &Roles<'_>,
        owner: &PgConnectOptions,
        connections: u32,
        health: &DatabaseHealth,
    ) -> Result<Self, OpenError> {
        let open = async |purpose: Purpose| {
            let mut options = roles.options(owner, purpose.role());
            if matches!(purpose, Purpose::Reads | Purpose::History) {
                // A plan that serves any filter and any company reads all rows of a company for one page; a plan that was made while a
                // partition of the log was empty reads the whole partition.
                options = options.options([("plan_cache_mode", "force_custom_plan")]);
            }
            // The group of projections keeps a connection, and under load two.
            let kept = 2 * u32::from(purpose == Purpose::Work);
            let connections = (connections * purpose.share() / 16).max(2) + kept;
            Pool::connect(options, connections, health.clone()).await
        };
        let commands = open(Purpose::Commands).await?;
        let may_copy = sqlx::query_scalar!(r#"select rolbypassrls or rolsuper as "may!" from pg_roles where rolname = current_user"#);
        Ok(Self {
            reads: open(Purpose::Reads).await?,
            history: open(Purpose::History).await?,
            identity: open(Purpose::Identity).await?,
            claims: open(Purpose::Claims).await?,
            work: open(Purpose::Work).await?,
            log_may_copy: may_copy.fetch_one(&commands).await?,
            commands,
            log_options: roles.options(owner, ServiceRole::Log),
        })
    }

    /// A transaction that sees the rows of this company only.
    pub async fn company(&self, company_id: Uuid) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
        self.begin_with(Some(company_id), "begin").await
    }

    /// The same, for queries of single rows by key. PostgreSQL plans each of these queries once per connection, because planning takes longer
    /// than executing them. The plan uses the indexes even if the tables are still small: it is kept while they grow.
    pub async fn company_by_key(&self, company_id: Uuid) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
        self.begin_with(Some(company_id), "begin; set local plan_cache_mode = force_generic_plan; set local enable_seqscan = off").await
    }

    /// A transaction like [`Self::company`], begun with `begin`. Without a company it sees nothing, unless the connection is the owner's.
    pub async fn begin_with(&self, company_id: Option<Uuid>, begin: &str) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
        let company_id = company_id.map(|id| id.to_string()).unwrap_or_default();
        let begin = format!("{begin}; set local newvoice.company_id = '{company_id}'");
        self.reads.begin_with(AssertSqlSafe(begin)).await
    }

    fn pools(&self) -> [(Purpose, &Pool); 6] {
        [
            (Purpose::Reads, &self.reads),
            (Purpose::History, &self.history),
            (Purpose::Identity, &self.identity),
            (Purpose::Commands, &self.commands),
            (Purpose::Claims, &self.claims),
            (Purpose::Work, &self.work),
        ]
    }

    /// Connections for reads that may be open.
    pub fn reads_max(&self) -> u32 {
        self.reads.max_size()
    }

    /// Connections that are open, and those of them that are idle.
    pub fn connections(&self) -> [(Purpose, u32, usize); 6] {
        self.pools().map(|(purpose, pool)| (purpose, pool.size(), pool.num_idle()))
    }

    pub async fn close(&self) {
        futures::future::join_all(self.pools().map(|(_, pool)| pool.close())).await;
    }
}

/// The roles of one installation.
pub(super) struct Roles<'a> {
    master: &'a MasterKey,
    /// `<schema>_%_<hash of the database's name>`, the same as in the function `service_role` of the database.
    schema: &'a str,
    database: String,
}

impl<'a> Roles<'a> {
    /// Creates the missing roles, as the owner, over a connection to the installation's database, and reverts changes that a service role
    /// can make to itself: to its password and its settings. The master key must be the installation's: with another key the running
    /// platform would lose its passwords.
    pub async fn ensure(owner: &PgConnectOptions, master: &'a MasterKey, schema: &'a str) -> Result<Self, OpenError> {
        let mut connection = PgConnection::connect_with(owner).await?;
        let database = sqlx::query_scalar!(r#"select left(md5(current_database()), 8) as "hash!""#).fetch_one(&mut connection).await?;
        let roles = Self { master, schema, database };
        let mut tx = roles.lock(&mut connection).await?;
        for role in ServiceRole::iter() {
            roles.create_missing(&mut tx, role).await?;
            roles.reset_settings(&mut tx, role).await?;
        }
        restrict_public(&mut tx).await?;
        tx.commit().await?;
        for role in ServiceRole::iter() {
            roles.ensure_login(owner, &mut connection, role).await?;
        }
        connection.close().await?;
        Ok(roles)
    }

    /// A transaction in which no other process changes the roles: two processes that start at once change them one after the other.
    async fn lock<'c>(&self, owner: &'c mut PgConnection) -> Result<Transaction<'c, Postgres>, sqlx::Error> {
        let mut tx = owner.begin().await?;
        let lock = sqlx::query!("select pg_advisory_xact_lock(hashtextextended($1 || '.roles', 0))", self.schema);
        lock.execute(&mut *tx).await?;
        Ok(tx)
    }

    /// Tries the role's password, and sets it again if it is refused: a process with the owner's connection and the master key is the
    /// platform.
    async fn ensure_login(&self, owner: &PgConnectOptions, connection: &mut PgConnection, role: ServiceRole) -> Result<(), OpenError> {
        let options = self.options(owner, role);
        match PgConnection::connect_with(&options).await {
            Ok(welcome) => return Ok(welcome.close().await?),
            Err(sqlx::Error::Database(refused)) if refused.code().is_some_and(|code| code.starts_with("28")) => {}
            Err(error) => return Err(error.into()),
        }
        let name = self.name(role);
        tracing::warn!(role = name, "PostgreSQL refused the password of a service role; it is set again");
        let mut tx = self.lock(connection).await?;
        self.write(&mut tx, role, "alter").await?;
        tx.commit().await?;
        let welcome = PgConnection::connect_with(&options).await;
        Ok(welcome.map_err(|error| OpenError::RoleRefused { role: name, error })?.close().await?)
    }

    fn name(&self, role: ServiceRole) -> String {
        format!("{}_{role}_{}", self.schema, self.database)
    }

    fn password(&self, role: ServiceRole) -> String {
        hex::encode(self.master.derive(&format!("database role {}", self.name(role))))
    }

    fn options(&self, owner: &PgConnectOptions, role: ServiceRole) -> PgConnectOptions {
        owner.clone().username(&self.name(role)).password(&self.password(role))
    }

    async fn create_missing(&self, owner: &mut PgConnection, role: ServiceRole) -> Result<(), OpenError> {
        let there = sqlx::query_scalar!(r#"select to_regrole($1) is not null as "there!""#, self.name(role));
        if there.fetch_one(&mut *owner).await? { Ok(()) } else { self.write(owner, role, "create").await }
    }

    /// Creates or alters a role: it may log in with its password, and nothing else.
    async fn write(&self, owner: &mut PgConnection, role: ServiceRole, verb: &str) -> Result<(), OpenError> {
        let is_superuser = sqlx::query_scalar!(r#"select rolsuper as "rolsuper!" from pg_roles where rolname = current_user"#);
        let is_superuser = is_superuser.fetch_one(&mut *owner).await?;
        // Only the role that copies into the log must be exempt from row-level security, and only a superuser can grant that.
        let bypass = if is_superuser && role == ServiceRole::Log { " bypassrls" } else { "" };
        // PostgreSQL stores this verifier (RFC 5803): the password itself is in no statement and no log.
        let (name, verifier) = (self.name(role), scram_sha_256(self.password(role).as_bytes()));
        let sql = format!("{verb} role {name} login noinherit{bypass} password '{verifier}'");
        owner.execute(AssertSqlSafe(sql)).await.map_err(may_not_make_roles)?;
        Ok(())
    }

    /// Resets the settings of a role, for all databases and for this one: a role may give itself settings with which no session can begin.
    /// The platform needs none of them.
    async fn reset_settings(&self, owner: &mut PgConnection, role: ServiceRole) -> Result<(), OpenError> {
        let name = self.name(role);
        let settings = sqlx::query_scalar!(
            r#"select unnest(s.setconfig) as "setting!" from pg_db_role_setting s
                where s.setrole = to_regrole($1)
                  and s.setdatabase in (0, (select oid from pg_database where datname = current_database()))"#,
            name
        );
        let settings = settings.fetch_all(&mut *owner).await?;
        if settings.is_empty() {
            return Ok(());
        }
        tracing::warn!(role = name, ?settings, "a service role had settings of its own; they are reset");
        let database = sqlx::query_scalar!(r#"select quote_ident(current_database()) as "database!""#).fetch_one(&mut *owner).await?;
        let sql = format!("alter role {name} reset all; alter role {name} in database {database} reset all");
        owner.execute(AssertSqlSafe(sql)).await.map_err(may_not_make_roles)?;
        Ok(())
    }
}

fn may_not_make_roles(error: sqlx::Error) -> OpenError {
    match &error {
        sqlx::Error::Database(refused) if refused.code().as_deref() == Some("42501") => OpenError::MayNotMakeRoles(refused.to_string()),
        _ => error.into(),
    }
}

/// Revokes temporary objects from PUBLIC in a database that belongs to the platform alone: the platform's roles do not need them, and a
/// role that can create them can fill the disk and hide tables. The owner role creates temporary views for rebuilds. A database belongs to
/// the platform alone if it has no other schema than the platform's, and in `public` only objects of extensions; only the database's owner
/// may revoke.
async fn restrict_public(owner: &mut PgConnection) -> Result<(), sqlx::Error> {
    let ours = sqlx::query!(
        r#"select quote_ident(d.datname) as "database!", quote_ident(current_user) as "owner!"
             from pg_database d
            where d.datname = current_database() and pg_has_role(d.datdba, 'usage')
              and exists (select from aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) a
                           where a.grantee = 0 and a.privilege_type = 'TEMPORARY')
              and not exists (select from pg_namespace n
                               where n.nspname not in ('public', 'information_schema', current_schema()) and n.nspname !~ '^pg_')
              and not exists (select from pg_class c
                               where c.relnamespace = to_regnamespace('public')
                                 and not exists (select from pg_depend x
                                                  where x.classid = 'pg_class'::regclass and x.objid = c.oid and x.deptype = 'e'))"#
    );
    let Some(ours) = ours.fetch_optional(&mut *owner).await? else { return Ok(()) };
    let sql = format!("grant temporary on database {0} to {1}; revoke temporary on database {0} from public", ours.database, ours.owner);
    owner.execute(AssertSqlSafe(sql)).await?;
    Ok(())
}

/// Grants the roles their rights where they are missing: in a new database, and in one that was restored without them. Roles that were
/// there before the database have the rights on its tables from the migrations, and not on its schema.
pub(super) async fn grant(owner: &Pool) -> Result<(), sqlx::Error> {
    let granted = sqlx::query_scalar!(
        r#"select not exists (select from table_access a, regexp_split_to_table(a.privileges, ', *') privilege
                               where to_regclass(a.table_name) is not null
                                 and not has_table_privilege(service_role(a.role), to_regclass(a.table_name), privilege))
              and not exists (select from table_access a
                               where not has_schema_privilege(service_role(a.role), current_schema(), 'usage')) as "granted!""#
    );
    if !granted.fetch_one(owner).await? {
        sqlx::query!("select protect_tables()").execute(owner).await?;
    }
    Ok(())
}
