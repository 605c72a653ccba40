//! A table of a read model, in one snapshot.

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use eventstore::{Persons, Pool};
use futures::TryStreamExt as _;
use projections::{PersonalColumns, Table, all};
use rust_decimal::Decimal;
use services::tables::{Cell, RowWriter};
use sqlx::{AssertSqlSafe, PgConnection, Row as _, postgres::PgRow};
use uuid::Uuid;

use super::{
    Column, Format, Kind, Scope,
    reveal::{self, SealedRow},
};
use crate::{WrongUse, audit};

/// Number of rows that are decrypted and written together.
const ROWS_AT_ONCE: usize = 500;

/// Rows of a read model's table; the table declares the column for the period.
pub struct ReadModel {
    table: Table,
    scope: Scope,
    columns: Vec<Column>,
}

/// The table with this name, and its read model.
fn find(name: &str) -> Result<(projections::ReadModel, Table), WrongUse> {
    let all = all();
    let tables = all.iter().flat_map(|projection| projection.tables().iter().map(|table| (projection.read_model(), *table)));
    let tables: Vec<_> = tables.collect();
    tables.iter().find(|(_, table)| table.name == name).copied().ok_or_else(|| {
        let known: Vec<_> = tables.iter().map(|(_, table)| table.name).collect();
        WrongUse(format!("there is no read model '{name}'; there are events, {}", known.join(", ")))
    })
}

/// The read model that a table belongs to.
pub fn of_table(name: &str) -> Result<projections::ReadModel, WrongUse> {
    find(name).map(|(model, _)| model)
}

impl ReadModel {
    /// The table with this name.
    pub async fn find(db: &mut PgConnection, name: &str, scope: Scope, format: Format) -> anyhow::Result<Self> {
        let (_, table) = find(name)?;
        if table.period.is_none() && (scope.from.is_some() || scope.to.is_some()) {
            return Err(WrongUse(format!("the rows of {name} belong to no period: leave out --from and --to")).into());
        }
        let mut model = Self { table, scope, columns: Vec::new() };
        model.columns = model.read_columns(db).await?;
        if format == Format::Parquet {
            model.measure_decimals(db).await?;
        }
        Ok(model)
    }

    pub fn columns(&self) -> Vec<Column> {
        self.columns.clone()
    }

    async fn read_columns(&self, db: &mut PgConnection) -> Result<Vec<Column>, sqlx::Error> {
        let rows = sqlx::query!(
            r#"select attname::text as "name!", format_type(atttypid, null) as "pg_type!" from pg_attribute
                where attrelid = to_regclass($1) and attnum > 0 and not attisdropped order by attnum"#,
            self.table.name
        );
        let columns = rows.fetch_all(db).await?.into_iter().map(|row| {
            let kind = match row.pg_type.as_str() {
                "boolean" => Kind::Bool,
                "smallint" | "integer" | "bigint" => Kind::Int,
                "numeric" => Kind::Decimal { scale: 0 },
                "uuid" => Kind::Uuid,
                "timestamp with time zone" => Kind::Time,
                "jsonb" => Kind::Json,
                "integer[]" | "bigint[]" => Kind::Ints,
                _ => Kind::Text,
            };
            Column { name: row.name, kind }
        });
        Ok(columns.collect())
    }

    /// A Parquet column has a fixed number of decimals: the maximum over all of its values.
    async fn measure_decimals(&mut self, db: &mut PgConnection) -> anyhow::Result<()> {
        let select = |column: &Column| format!("coalesce(max(scale(trim_scale({}))), 0)", column.name);
        let decimals: Vec<_> = self.columns.iter().filter(|column| matches!(column.kind, Kind::Decimal { .. })).map(select).collect();
        if decimals.is_empty() {
            return Ok(());
        }
        let scales = self.query(&format!("array[{}]", decimals.join(", ")));
        let scales: Vec<i32> = self.bound(&scales).fetch_one(db).await?.try_get(0)?;
        let mut scales = scales.into_iter();
        for column in &mut self.columns {
            if let Kind::Decimal { scale } = &mut column.kind {
                let found = scales.next().context("a column of numbers was not measured")?;
                *scale = i8::try_from(found).with_context(|| format!("{} has {found} decimals: export it as JSON lines", column.name))?;
            }
        }
        Ok(())
    }

    /// The SQL expression for a column's cells: null instead of a placeholder as long as the person's key exists, because the value is not
    /// erased then.
    fn value(&self, column: &str) -> String {
        match self.table.personal.iter().find(|personal| personal.placeholders.contains(&column)) {
            Some(PersonalColumns { envelope, .. }) => {
                let table = self.table.name;
                format!(
                    "(case when not exists (select from person_keys k where k.company_id = {table}.company_id
                                               and k.person_id = ({table}.{envelope} ->> 'person_id')::uuid) then {column} end)"
                )
            }
            // The columns that are generated from the body have the personal values.
            None if column == "body" => {
                let personal = self.table.personal.iter().flat_map(|personal| personal.placeholders).copied().collect::<Vec<_>>();
                format!("(body - '{{{}}}'::text[])", personal.join(", "))
            }
            None => column.to_owned(),
        }
    }

    fn query(&self, select: &str) -> String {
        let period = self
            .table
            .period
            .map(|column| format!(" and ($2::timestamptz is null or {column} >= $2) and ($3::timestamptz is null or {column} < $3)"));
        format!("select {select} from {} where ($1::uuid is null or company_id = $1){}", self.table.name, period.unwrap_or_default())
    }

    fn bound<'q>(&self, sql: &'q str) -> sqlx::query::Query<'q, sqlx::Postgres, sqlx::postgres::PgArguments> {
        let query = sqlx::query(AssertSqlSafe(sql.to_owned())).bind(self.scope.company);
        if self.table.period.is_some() { query.bind(self.scope.from).bind(self.scope.to) } else { query }
    }

    pub async fn count(&self, db: &mut PgConnection) -> Result<i64, sqlx::Error> {
        let sql = self.query("count(*)");
        self.bound(&sql).fetch_one(db).await?.try_get(0)
    }

    /// Writes the rows in the order of their period, with decrypted personal values if `persons` are given; `progress` gets the number of
    /// rows.
    pub async fn write(
        &self,
        db: &mut PgConnection,
        persons: Option<&Persons>,
        writer: &mut dyn RowWriter,
        mut progress: impl FnMut(u64),
    ) -> anyhow::Result<()> {
        let select = self.columns.iter().map(|column| {
            let value = self.value(&column.name);
            match column.kind {
                Kind::Int => format!("{value}::bigint"),
                Kind::Ints => format!("{value}::bigint[]"),
                Kind::Text | Kind::Json => format!("{value}::text"),
                Kind::Bool | Kind::Decimal { .. } | Kind::Uuid | Kind::Time => value,
            }
        });
        let persons = persons.filter(|_| !self.table.personal.is_empty());
        let sealed = if persons.is_some() { reveal::expressions(self.table.personal) } else { Vec::new() };
        let order = self.table.period.map(|column| format!(" order by {column}")).unwrap_or_default();
        let sql = self.query(&select.chain(sealed).collect::<Vec<_>>().join(", ")) + &order;
        let mut rows = self.bound(&sql).fetch(db).try_chunks(ROWS_AT_ONCE);
        let mut written = 0;
        while let Some(chunk) = rows.try_next().await? {
            written += chunk.len() as u64;
            let cells = match persons {
                None => chunk.iter().map(|row| self.cells(row)).collect::<Result<Vec<_>, _>>()?,
                Some(persons) => self.revealed(persons, &chunk).await?,
            };
            for row in cells {
                writer.write(row)?;
            }
            progress(written);
        }
        Ok(())
    }

    async fn revealed(&self, persons: &Persons, rows: &[PgRow]) -> anyhow::Result<Vec<Vec<Cell>>> {
        let place_of = |name: &str| self.columns.iter().position(|column| column.name == name);
        let sealed = |row| SealedRow::new(row, self.cells(row)?, self.columns.len(), self.table.personal, place_of);
        let mut rows = rows.iter().map(sealed).collect::<Result<Vec<_>, _>>()?;
        reveal::reveal(persons, &mut rows).await?;
        Ok(rows.into_iter().map(|row| row.cells).collect())
    }

    /// Records in the audit of each company whose rows are exported that their personal values are decrypted.
    pub async fn record_reveal(&self, owner: &Pool) -> anyhow::Result<()> {
        let companies = match self.scope.company {
            Some(company) => vec![company],
            None => sqlx::query_scalar!("select company_id from companies").fetch_all(owner).await?,
        };
        for company in companies {
            audit::record(owner, company, "replay-tool export --reveal", self.table.name).await?;
        }
        Ok(())
    }

    fn cells(&self, row: &PgRow) -> Result<Vec<Cell>, sqlx::Error> {
        let cell = |(i, column): (usize, &Column)| {
            Ok(match column.kind {
                Kind::Bool => row.try_get::<Option<bool>, _>(i)?.into(),
                Kind::Int => row.try_get::<Option<i64>, _>(i)?.into(),
                Kind::Decimal { .. } => row.try_get::<Option<Decimal>, _>(i)?.into(),
                Kind::Uuid => row.try_get::<Option<Uuid>, _>(i)?.into(),
                Kind::Time => row.try_get::<Option<DateTime<Utc>>, _>(i)?.into(),
                Kind::Ints => row.try_get::<Option<Vec<i64>>, _>(i)?.into(),
                Kind::Text => row.try_get::<Option<String>, _>(i)?.into(),
                Kind::Json => row.try_get::<Option<String>, _>(i)?.map_or(Cell::Null, Cell::Json),
            })
        };
        self.columns.iter().enumerate().map(cell).collect()
    }
}
