//! Guessing passwords takes time: attempts to log in are counted, in the database, by address and client; a success takes them back.
//! Registrations are counted by client.

use eventstore::{MasterKey, Pool};

use super::credentials::UserCredentials;
use crate::problem::Problem;

/// For so long attempts are counted together, in minutes.
const WINDOW_MINUTES: i32 = 15;
/// Attempts that may fail within that time: of one client at one address, of all clients at it, of one client at all addresses.
const AT_ADDRESS_FROM_CLIENT: i32 = 10;
const AT_ADDRESS: i32 = 100;
const FROM_CLIENT: i32 = 200;
/// Registrations within that time from one client, also those that come to nothing.
const REGISTRATIONS: i32 = 1_000;

/// More attempts than may be.
struct TooMany {
    /// None before it was too much.
    is_first: bool,
    wait_sec: u32,
}

/// Counts an attempt before it is known whether it succeeds, so that many at once are not more. What is counted are keyed hashes:
/// nobody can tell from them who came.
async fn count(pool: &Pool, subject: &[u8], most: i32) -> Result<Option<TooMany>, sqlx::Error> {
    let counted = sqlx::query!(
        r#"insert into login_failures as f (subject, count, first_at) values ($1, 1, now())
           on conflict (subject) do update
              set count = case when f.first_at < now() - make_interval(mins => $2) then 1 else least(f.count, 1000000) + 1 end,
                  first_at = case when f.first_at < now() - make_interval(mins => $2) then now() else f.first_at end
           returning count, ceil(extract(epoch from first_at + make_interval(mins => $2) - now()))::int as "wait_sec!""#,
        subject,
        WINDOW_MINUTES
    );
    let counted = counted.fetch_one(pool).await?;
    let wait_sec = u32::try_from(counted.wait_sec).unwrap_or(1).max(1);
    Ok((counted.count > most).then_some(TooMany { is_first: counted.count == most + 1, wait_sec }))
}

/// Counts a registration; refuses it when there were too many from this client.
pub async fn count_registration(pool: &Pool, master: &MasterKey, client: &str) -> Result<(), Problem> {
    match count(pool, &master.derive(&format!("registrations {client}")), REGISTRATIONS).await? {
        Some(too_many) => Err(Problem::too_many("too many registrations; try again later", too_many.wait_sec)),
        None => Ok(()),
    }
}

/// One attempt to log in.
pub struct Throttle<'a> {
    pool: &'a Pool,
    subjects: [(Vec<u8>, i32); 3],
}

impl<'a> Throttle<'a> {
    pub fn new(pool: &'a Pool, master: &MasterKey, email: &str, client: &str) -> Self {
        let subject = |what: String, most| (master.derive(&what).to_vec(), most);
        let subjects = [
            subject(format!("attempt {client} {email}"), AT_ADDRESS_FROM_CLIENT),
            subject(format!("attempt {email}"), AT_ADDRESS),
            subject(format!("attempts {client}"), FROM_CLIENT),
        ];
        Self { pool, subjects }
    }

    /// Refuses the attempt when there were too many. The first refusal is noted in the audit of whom it is about, and not a flood of them.
    pub async fn count(&self, about: Option<&UserCredentials>) -> Result<(), Problem> {
        for (subject, most) in &self.subjects {
            let Some(too_many) = count(self.pool, subject, *most).await? else { continue };
            let refused = Problem::too_many("too many attempts to log in; try again later", too_many.wait_sec);
            return Err(match about.filter(|_| too_many.is_first) {
                Some(user) => refused.about(user.company_id, user.user_id),
                None => refused,
            });
        }
        Ok(())
    }

    /// It was the right password.
    pub async fn succeeded(&self) -> Result<(), Problem> {
        let [own, address, client] = &self.subjects;
        sqlx::query!("delete from login_failures where subject = any($1)", &[own.0.clone(), address.0.clone()]).execute(self.pool).await?;
        sqlx::query!("update login_failures set count = greatest(count - 1, 0) where subject = $1", client.0).execute(self.pool).await?;
        Ok(())
    }
}

/// Forgets what no longer counts.
pub async fn purge(pool: &Pool) -> Result<(), sqlx::Error> {
    sqlx::query!("delete from login_failures where first_at < now() - make_interval(mins => $1)", WINDOW_MINUTES).execute(pool).await?;
    Ok(())
}
