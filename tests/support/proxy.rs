//! A proxy between a client and PostgreSQL: cuts the connection at a chosen statement, or runs an action there.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::Duration,
};

use futures::{FutureExt as _, future::BoxFuture};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::Notify,
};

/// The side of the statement on which the next connection is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// PostgreSQL does not receive the statement.
    Before,
    /// PostgreSQL has run the statement, and the client does not receive the answer.
    After,
}

/// Lets a number of statements pass and then cuts all connections. Clones share it.
#[derive(Clone)]
pub struct Proxy {
    pub port: u16,
    /// Number of statements that still pass; negative when no cut is set.
    left: Arc<AtomicI64>,
    cut: Arc<Mutex<Cut>>,
    cuts: Arc<AtomicI64>,
    trap: Arc<Mutex<Option<Trap>>>,
    hold: Arc<Mutex<Option<Hold>>>,
    drops_options: Arc<AtomicBool>,
}

/// An action that runs once, at a matching statement, in addition to the cut.
struct Trap {
    /// Parts of the statement's text or parameters; any of them is enough.
    needles: &'static [&'static str],
    cut: Cut,
    action: Box<dyn FnOnce() + Send>,
}

/// A future that delays one matching statement before PostgreSQL gets it.
struct Hold {
    /// Parts of the statement's text; any of them is enough.
    needles: &'static [&'static str],
    until: BoxFuture<'static, ()>,
}

/// Signals between the two directions of a connection.
#[derive(Default)]
struct Link {
    /// From now on, answers are held back.
    silence: Notify,
    /// PostgreSQL has closed the connection.
    closed: Notify,
}

/// Longest wait for PostgreSQL to run a statement whose answer is held back.
const RUN_TIMEOUT: Duration = Duration::from_secs(5);
const NEVER: i64 = -1_000_000_000;

impl Proxy {
    pub async fn start(server_port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Self {
            port: listener.local_addr().unwrap().port(),
            left: Arc::new(AtomicI64::new(NEVER)),
            cut: Arc::new(Mutex::new(Cut::Before)),
            cuts: Arc::default(),
            trap: Arc::default(),
            hold: Arc::default(),
            drops_options: Arc::default(),
        };
        let serving = proxy.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let proxy = serving.clone();
                tokio::spawn(async move {
                    if let Ok(server) = TcpStream::connect(("127.0.0.1", server_port)).await {
                        proxy.serve(client, server).await;
                    }
                });
            }
        });
        proxy
    }

    /// A proxy before the server of a database, and the database's address through it.
    pub async fn before(url: &str) -> (Self, String) {
        let (start, end) = url.rsplit_once(':').unwrap();
        let (port, database) = end.split_once('/').unwrap();
        let proxy = Self::start(port.parse().unwrap()).await;
        let through = format!("{start}:{}/{database}", proxy.port);
        (proxy, through)
    }

    /// Lets `statements` pass from now on, then cuts the connection of the next one.
    pub fn cut_after(&self, statements: i64, cut: Cut) {
        *self.cut.lock().unwrap() = cut;
        self.left.store(statements, Ordering::SeqCst);
    }

    /// Removes the `options` of new connections, as PgBouncer does when it is configured to ignore them.
    pub fn drop_options(&self) {
        self.drops_options.store(true, Ordering::SeqCst);
    }

    /// Runs `action` at the next statement that contains one of the needles, in its text or its parameters: before PostgreSQL gets it, or
    /// after PostgreSQL has run it and before the client gets the answer. Then the connection is closed.
    pub fn set_trap(&self, needles: &'static [&'static str], cut: Cut, action: impl FnOnce() + Send + 'static) {
        *self.trap.lock().unwrap() = Some(Trap { needles, cut, action: Box::new(action) });
    }

    /// Delays the next statement that contains one of the needles until `until` has ended. No connection is cut.
    pub fn hold_at(&self, needles: &'static [&'static str], until: impl Future<Output = ()> + Send + 'static) {
        *self.hold.lock().unwrap() = Some(Hold { needles, until: until.boxed() });
    }

    fn held(&self, statement: &str) -> Option<Hold> {
        self.hold.lock().unwrap().take_if(|hold| hold.needles.iter().any(|needle| statement.contains(needle)))
    }

    /// Whether no trap is set, or the trap was triggered.
    pub fn has_sprung(&self) -> bool {
        self.trap.lock().unwrap().is_none()
    }

    fn spring(&self, statement: &str) -> Option<Trap> {
        self.trap.lock().unwrap().take_if(|trap| trap.needles.iter().any(|needle| statement.contains(needle)))
    }

    /// Number of cuts so far.
    pub fn cuts(&self) -> i64 {
        self.cuts.load(Ordering::SeqCst)
    }

    async fn serve(&self, client: TcpStream, server: TcpStream) {
        client.set_nodelay(true).unwrap();
        server.set_nodelay(true).unwrap();
        let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
        let link = Arc::new(Link::default());
        let answers = tokio::spawn(answers(from_server, to_client, Arc::clone(&link)));
        let _ = self.statements(from_client, to_server, &link).await;
        answers.abort();
    }

    /// Forwards the client's messages. A statement ends with Sync or is a Query (PostgreSQL documentation, 55.7).
    async fn statements(&self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf, link: &Link) -> std::io::Result<()> {
        // The startup message has no type; our test clients do not request encryption.
        let length = from.read_i32().await?;
        let mut body = vec![0; usize::try_from(length - 4).unwrap()];
        from.read_exact(&mut body).await?;
        if self.drops_options.load(Ordering::SeqCst) {
            body = without_options(&body);
        }
        let length = i32::try_from(body.len() + 4).unwrap();
        to.write_all(&[&length.to_be_bytes()[..], &body].concat()).await?;
        let mut statement = Vec::new();
        let (mut prepared, mut text) = (HashMap::new(), String::new());
        loop {
            let kind = from.read_u8().await?;
            let length = from.read_i32().await?;
            let mut body = vec![0; usize::try_from(length - 4).unwrap()];
            from.read_exact(&mut body).await?;
            match kind {
                b'P' => {
                    let (name, sql) = (string_at(&body, 0), string_at(&body, 1));
                    prepared.insert(name, sql);
                }
                b'B' => {
                    let statement = prepared.get(&string_at(&body, 1)).map(String::as_str).unwrap_or_default();
                    text = format!("{statement}\n{}", String::from_utf8_lossy(&body));
                }
                b'Q' => text = string_at(&body, 0),
                _ => {}
            }
            statement.push(kind);
            statement.extend(length.to_be_bytes());
            statement.extend(body);
            // Messages of a password exchange, and those that end a statement.
            if !matches!(kind, b'S' | b'Q' | b'p') {
                continue;
            }
            let hold = self.held(&text);
            if let Some(hold) = hold {
                hold.until.await;
            }
            let is_statement = kind != b'p';
            let is_cut = is_statement && self.left.fetch_sub(1, Ordering::SeqCst) == 0;
            let trap = self.spring(&std::mem::take(&mut text));
            if !is_cut && trap.is_none() {
                to.write_all(&std::mem::take(&mut statement)).await?;
                continue;
            }
            self.cuts.fetch_add(1, Ordering::SeqCst);
            let cut = trap.as_ref().map_or_else(|| *self.cut.lock().unwrap(), |trap| trap.cut);
            if cut == Cut::After {
                link.silence.notify_one();
                tokio::task::yield_now().await;
                to.write_all(&statement).await?;
                // Terminate follows the statement: PostgreSQL runs the statement before it closes the connection.
                to.write_all(&[b'X', 0, 0, 0, 4]).await?;
                to.flush().await?;
                let _ = tokio::time::timeout(RUN_TIMEOUT, link.closed.notified()).await;
            }
            if let Some(trap) = trap {
                (trap.action)();
            }
            return Ok(());
        }
    }
}

/// A startup message (the protocol's version, then names and values) without `options`.
fn without_options(body: &[u8]) -> Vec<u8> {
    let (version, parameters) = body.split_at(4);
    let strings: Vec<&[u8]> = parameters.split(|byte| *byte == 0).collect();
    let kept = strings.chunks(2).take_while(|pair| !pair[0].is_empty()).filter(|pair| pair[0] != b"options");
    let kept = kept.flat_map(|pair| pair.iter().flat_map(|text| text.iter().copied().chain([0])));
    version.iter().copied().chain(kept).chain([0]).collect()
}

/// The n-th of the zero-terminated strings at the beginning of a message.
fn string_at(body: &[u8], n: usize) -> String {
    body.split(|byte| *byte == 0).nth(n).map(|text| String::from_utf8_lossy(text).into_owned()).unwrap_or_default()
}

async fn answers(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, link: Arc<Link>) {
    tokio::select! {
        biased;
        () = link.silence.notified() => {}
        _ = tokio::io::copy(&mut from, &mut to) => return,
    }
    let _ = tokio::io::copy(&mut from, &mut tokio::io::sink()).await;
    link.closed.notify_one();
    // The connection is neither answered nor closed: the side that cuts does that.
    std::future::pending().await
}
