//! Each company's share of the processor. A company that has used more than its share waits before its next request while another company is
//! active: its requests, of whatever kind, do not make those of others slow. Requests without a valid credential are counted by network.

use std::{
    future::poll_fn,
    net::IpAddr,
    num::NonZeroUsize,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::{
    body::HttpBody as _,
    extract::{MatchedPath, Request, State},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use lru::LruCache;
use nix::time::{ClockId, clock_gettime};
use tokio::time::Instant;
use uuid::Uuid;

use super::Origin;
use crate::{problem::Problem, state::App};

/// Each payer's share: one of this number of equal parts of the processor.
const PARTS: u32 = 4;
/// A company is active for this time after a request.
const ACTIVE_FOR: Duration = Duration::from_secs(1);
/// Processor time is paid at the rate of the share. A payer may owe as much as it pays in this time without waiting.
const CREDIT: Duration = Duration::from_millis(200);
/// How long a request waits until its company has paid for the earlier ones; it is refused if that would take longer, because of the
/// requests that wait before it.
const WAIT_MAX: Duration = Duration::from_secs(5);
/// The same for probes of health and readiness, which are never refused.
const PROBE_WAIT_MAX: Duration = Duration::from_millis(50);
/// The `Retry-After` of a refused request, in seconds.
const RETRY_AFTER_SEC: u32 = 5;
/// Processor time of a request outside its handler: its head is parsed and answered, its connection is polled.
const PER_REQUEST: Duration = Duration::from_micros(100);
/// Processor time for sending one byte, mostly in the kernel.
const PER_BYTE: Duration = Duration::from_nanos(1);
/// Processor time for storing one byte of a command and for projecting it, mostly in PostgreSQL.
const PER_STORED_BYTE: Duration = Duration::from_nanos(300);
/// Most of the expected processor time of a request: after one long command, the others do not wait as if they were as long.
const EXPECTED_MAX: Duration = Duration::from_millis(20);
/// Maximum number of payers that are remembered.
const PAYERS_MAX: NonZeroUsize = NonZeroUsize::new(10_000).unwrap();
const PROBES: &[&str] = &["/healthz", "/readyz"];

/// To whose account a request goes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Payer {
    Company(Uuid),
    /// Requests without a valid credential; `None` if the client's address is not known.
    Network(Option<IpAddr>),
}

impl Payer {
    /// Of a request without a valid credential.
    pub fn stranger(origin: Option<&Origin>) -> Self {
        Self::Network(origin.and_then(Origin::network_address))
    }

    const fn kind(self) -> &'static str {
        match self {
            Self::Company(_) => "company",
            Self::Network(_) => "network",
        }
    }
}

/// What a payer has used.
#[derive(Clone, Copy)]
struct Account {
    /// When the used processor time will be paid, at the rate of the share.
    paid_at: Instant,
    /// Expected processor time of the next request: requests that run at the same time are spread by it.
    expected: Duration,
}

struct Accounts {
    of: LruCache<Payer, Account>,
    /// The two companies that sent the last requests.
    active: [Option<(Uuid, Instant)>; 2],
}

pub struct ProcessorTime {
    /// Time in which one second of processor time is paid, in seconds.
    rate: f64,
    accounts: Mutex<Accounts>,
}

/// The processor time of one request, put on its payer's account when this value is dropped.
pub struct Bill {
    time: Arc<ProcessorTime>,
    payer: Payer,
    /// What was put on the account before the request ran.
    reserved: Duration,
    used: Duration,
    /// Added if the request succeeds.
    for_storing: Duration,
}

impl Default for ProcessorTime {
    fn default() -> Self {
        Self::new(std::thread::available_parallelism().map_or(1, NonZeroUsize::get))
    }
}

impl ProcessorTime {
    #[expect(clippy::cast_precision_loss, reason = "a number of processors")]
    fn new(processors: usize) -> Self {
        let accounts = Accounts { of: LruCache::new(PAYERS_MAX), active: [None; 2] };
        Self { rate: f64::from(PARTS) / processors as f64, accounts: Mutex::new(accounts) }
    }

    fn accounts(&self) -> MutexGuard<'_, Accounts> {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the payer has paid for its earlier requests, if another company is active. Answers 429 if that takes too long.
    pub async fn wait(self: &Arc<Self>, payer: Payer) -> Result<Bill, Problem> {
        let (wait, bill) = self.reserve(payer, Instant::now());
        if !wait.is_zero() {
            metrics::counter!("newvoice_processor_waits_total", "payer" => payer.kind()).increment(1);
            tokio::time::sleep(wait).await;
        }
        bill.ok_or_else(|| Problem::too_many("too many requests that need much processor time", RETRY_AFTER_SEC))
    }

    /// The same for a probe.
    async fn wait_briefly(self: &Arc<Self>, payer: Payer) -> Option<Bill> {
        let (wait, bill) = self.reserve(payer, Instant::now());
        tokio::time::sleep(wait.min(PROBE_WAIT_MAX)).await;
        bill
    }

    /// How long the request has to wait, and its bill; none if it would wait too long.
    fn reserve(self: &Arc<Self>, payer: Payer, now: Instant) -> (Duration, Option<Bill>) {
        let mut accounts = self.accounts();
        let is_contended = accounts.is_contended(payer, now);
        let account = accounts.of.get_or_insert_mut(payer, || Account { paid_at: now, expected: PER_REQUEST });
        account.paid_at = account.paid_at.max(now);
        if !is_contended {
            account.paid_at = account.paid_at.min(now + CREDIT);
        }
        let wait = (account.paid_at - now).saturating_sub(CREDIT);
        if wait > WAIT_MAX {
            return (WAIT_MAX, None);
        }
        let reserved = account.expected;
        account.paid_at += reserved.mul_f64(self.rate);
        (wait, Some(Bill { time: Arc::clone(self), payer, reserved, used: PER_REQUEST, for_storing: Duration::ZERO }))
    }
}

impl Accounts {
    /// Whether another company is active. Notes that this one is.
    fn is_contended(&mut self, payer: Payer, now: Instant) -> bool {
        if let Payer::Company(company) = payer {
            if !matches!(self.active[0], Some((last, _)) if last == company) {
                self.active.swap(0, 1);
            }
            self.active[0] = Some((company, now));
        }
        let is_another = |(company, at): (Uuid, Instant)| payer != Payer::Company(company) && now - at < ACTIVE_FOR;
        self.active.into_iter().flatten().any(is_another)
    }
}

impl Bill {
    /// The request is a command with a body of this size.
    pub const fn stores(mut self, bytes: u64) -> Self {
        self.for_storing = per_byte(PER_STORED_BYTE, bytes);
        self
    }

    /// Runs the request and measures the processor time that it uses, on whatever threads.
    pub async fn answer(mut self, answer: impl Future<Output = Response>) -> Response {
        let response = self.add(answer).await;
        self.used += per_byte(PER_BYTE, response.body().size_hint().exact().unwrap_or_default());
        if response.status().is_success() {
            self.used += self.for_storing;
        }
        response
    }

    /// Runs a part of a request, such as a page of a download, and measures it.
    pub async fn measure<T>(mut self, work: impl Future<Output = T>) -> T {
        self.add(work).await
    }

    /// The same for work that does not wait, on a thread of its own.
    pub fn charge<T>(mut self, work: impl FnOnce() -> T) -> T {
        let begun = thread_time();
        let done = work();
        self.used += thread_time().saturating_sub(begun);
        done
    }

    async fn add<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        poll_fn(|context| {
            let begun = thread_time();
            let polled = work.as_mut().poll(context);
            self.used += thread_time().saturating_sub(begun);
            polled
        })
        .await
    }
}

impl Drop for Bill {
    fn drop(&mut self) {
        if let Some(account) = self.time.accounts().of.get_mut(&self.payer) {
            account.expected = ((account.expected * 7 + self.used) / 8).min(EXPECTED_MAX);
            let (reserved, used) = (self.reserved.mul_f64(self.time.rate), self.used.mul_f64(self.time.rate));
            let paid_at = account.paid_at.checked_sub(reserved).unwrap_or(account.paid_at) + used;
            account.paid_at = paid_at.min(Instant::now() + CREDIT + WAIT_MAX);
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "bodies are shorter than 4 GiB")]
const fn per_byte(time: Duration, bytes: u64) -> Duration {
    time.saturating_mul(if bytes > u32::MAX as u64 { u32::MAX } else { bytes as u32 })
}

/// Processor time of this thread.
fn thread_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Into::into)
}

/// Requests outside the API, which need no credential: the documentation, health, metrics and unknown paths. Those to the API pass
/// [`gate`](super::gate).
pub async fn share_processor(State(app): State<App>, request: Request, next: Next) -> Response {
    let path = request.extensions().get::<MatchedPath>().map_or("", MatchedPath::as_str);
    if path.starts_with("/api/") {
        return next.run(request).await;
    }
    let payer = Payer::stranger(request.extensions().get::<Origin>());
    if PROBES.contains(&path) {
        return match app.processor_time.wait_briefly(payer).await {
            Some(bill) => bill.answer(next.run(request)).await,
            None => next.run(request).await,
        };
    }
    match app.processor_time.wait(payer).await {
        Ok(bill) => bill.answer(next.run(request)).await,
        Err(problem) => problem.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    const ONE: Payer = Payer::Company(Uuid::from_u128(1));
    const OTHER: Payer = Payer::Company(Uuid::from_u128(2));
    const STRANGER: Payer = Payer::Network(None);
    const STEP: Duration = Duration::from_millis(20);

    /// Sends requests that use `used` of the processor, one after the other, and returns how many ran in a second.
    async fn sent_in_a_second(time: &Arc<ProcessorTime>, payer: Payer, used: Duration, mut meanwhile: impl AsyncFnMut()) -> u32 {
        let (begun, mut sent) = (Instant::now(), 0);
        while begun.elapsed() < Duration::from_secs(1) {
            meanwhile().await;
            let mut bill = time.wait(payer).await.unwrap();
            tokio::time::sleep(used).await;
            bill.used = used;
            sent += 1;
        }
        sent
    }

    #[tokio::test(start_paused = true)]
    async fn a_company_alone_waits_for_nothing() {
        let time = Arc::new(ProcessorTime::new(1));
        assert_eq!(sent_in_a_second(&time, ONE, STEP, async || ()).await, 50);
        assert_eq!(sent_in_a_second(&time, STRANGER, STEP, async || ()).await / 10, 1, "a stranger waits for the company");
    }

    #[tokio::test(start_paused = true)]
    async fn while_another_is_active_a_company_gets_its_share_of_the_processors() {
        for (processors, share) in [(1, 0.25), (2, 0.5), (8, 1.0)] {
            let time = Arc::new(ProcessorTime::new(processors));
            let other = async || drop(time.wait(OTHER).await.unwrap());
            // The first second includes the credit.
            sent_in_a_second(&time, ONE, STEP, other).await;
            let sent = sent_in_a_second(&time, ONE, STEP, other).await;
            let part = STEP.as_secs_f64() * f64::from(sent);
            assert!((part - share).abs() <= 0.05, "{part} of a processor instead of {share}");
            let begun = Instant::now();
            other().await;
            assert_eq!(begun.elapsed(), Duration::ZERO, "the other company does not wait");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_used_alone_is_not_owed_when_another_comes() {
        let time = Arc::new(ProcessorTime::new(1));
        sent_in_a_second(&time, ONE, STEP, async || ()).await;
        drop(time.wait(OTHER).await.unwrap());
        let (wait, bill) = time.reserve(ONE, Instant::now());
        assert!(wait <= STEP * PARTS && bill.is_some(), "{wait:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn requests_at_once_are_spread_and_refused_when_they_would_wait_too_long() {
        let time = Arc::new(ProcessorTime::new(1));
        drop(time.wait(OTHER).await.unwrap());
        for _ in 0..30 {
            let mut bill = time.wait(ONE).await.unwrap();
            bill.used = STEP;
        }
        drop(time.wait(OTHER).await.unwrap());
        let now = Instant::now();
        let mut bills = Vec::new();
        let mut waits = Vec::new();
        while let (wait, Some(bill)) = time.reserve(ONE, now) {
            waits.push(wait);
            bills.push(bill);
        }
        let apart = waits[1] - waits[0];
        assert!(apart > STEP * 3 && apart <= STEP * PARTS, "one after the other: {apart:?}");
        assert!(waits.len() > 50 && waits.iter().all(|wait| *wait <= WAIT_MAX));
        assert_eq!(time.wait(ONE).await.err().unwrap().status, 429);
        assert_eq!(now.elapsed(), WAIT_MAX, "refused after the wait, so that a refusal costs a client its time");
        assert!(time.wait_briefly(STRANGER).await.is_some(), "another payer");
    }

    #[tokio::test(start_paused = true)]
    async fn after_one_long_command_the_next_request_waits_and_is_not_refused() {
        let time = Arc::new(ProcessorTime::new(1));
        let bill = time.wait(ONE).await.unwrap().stores(32 << 20);
        bill.answer(async { Response::default() }).await;
        drop(time.wait(OTHER).await.unwrap());
        let (wait, bill) = time.reserve(ONE, Instant::now());
        assert!(wait > WAIT_MAX / 2 && bill.is_some(), "{wait:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_command_is_not_charged_for_storing() {
        let time = Arc::new(ProcessorTime::new(1));
        let bill = time.wait(ONE).await.unwrap().stores(32 << 20);
        bill.answer(async { Problem::not_found("call").into_response() }).await;
        drop(time.wait(OTHER).await.unwrap());
        assert_eq!(time.reserve(ONE, Instant::now()).0, Duration::ZERO);
    }

    #[tokio::test]
    async fn the_processor_time_of_a_request_is_measured() {
        let time = Arc::new(ProcessorTime::new(1));
        let busy = async {
            let begun = thread_time();
            while thread_time() - begun < STEP {}
            Response::new(Body::from(vec![0; 1_000_000]))
        };
        let begun_at = Instant::now();
        let (_, bill) = time.reserve(ONE, begun_at);
        bill.unwrap().answer(busy).await;
        let account = *time.accounts().of.get(&ONE).unwrap();
        // From the beginning: a machine that is busy with other work does not change it.
        let owed = account.paid_at - begun_at;
        assert!(owed > STEP * 3, "{owed:?}");
        assert!(account.expected > PER_REQUEST);
    }
}
