//! Between a client and PostgreSQL: cuts the connection at a statement of one's choice.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::Notify,
};

/// Where the next connection is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// PostgreSQL does not hear of the statement.
    Before,
    /// It has run the statement, and the client does not hear of it.
    After,
}

/// Lets a number of statements through and then cuts all connections, again and again. Shared by its clones.
#[derive(Clone)]
pub struct Proxy {
    pub port: u16,
    /// Statements that are still let through; negative when nothing is to be cut.
    left: Arc<AtomicI64>,
    cut: Arc<std::sync::Mutex<Cut>>,
    cuts: Arc<AtomicI64>,
}

const NEVER: i64 = -1_000_000_000;

impl Proxy {
    pub async fn start(server_port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Self {
            port: listener.local_addr().unwrap().port(),
            left: Arc::new(AtomicI64::new(NEVER)),
            cut: Arc::new(std::sync::Mutex::new(Cut::Before)),
            cuts: Arc::default(),
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

    /// Lets `statements` through from now on, then cuts the connection of the next one.
    pub fn cut_after(&self, statements: i64, cut: Cut) {
        *self.cut.lock().unwrap() = cut;
        self.left.store(statements, Ordering::SeqCst);
    }

    /// How often it has cut.
    pub fn cuts(&self) -> i64 {
        self.cuts.load(Ordering::SeqCst)
    }

    async fn serve(&self, client: TcpStream, server: TcpStream) {
        client.set_nodelay(true).unwrap();
        server.set_nodelay(true).unwrap();
        let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
        // An answer that must not arrive is held back by not reading it.
        let silence = Arc::new(Notify::new());
        let answers = tokio::spawn(answers(from_server, to_client, Arc::clone(&silence)));
        let _ = self.statements(from_client, to_server, &silence).await;
        answers.abort();
    }

    /// Hands the client's messages on. A statement ends with Sync or is a Query (PostgreSQL documentation, 55.7).
    async fn statements(&self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf, silence: &Notify) -> std::io::Result<()> {
        // The startup message has no type; encryption is not asked for by our test clients.
        let length = from.read_i32().await?;
        let mut body = vec![0; usize::try_from(length - 4).unwrap()];
        from.read_exact(&mut body).await?;
        to.write_all(&[&length.to_be_bytes()[..], &body].concat()).await?;
        let mut statement = Vec::new();
        loop {
            let kind = from.read_u8().await?;
            let length = from.read_i32().await?;
            let mut body = vec![0; usize::try_from(length - 4).unwrap()];
            from.read_exact(&mut body).await?;
            statement.push(kind);
            statement.extend(length.to_be_bytes());
            statement.extend(body);
            // Messages of a password exchange, and what a statement ends with.
            if !matches!(kind, b'S' | b'Q' | b'p') {
                continue;
            }
            let is_statement = kind != b'p';
            let is_cut = is_statement && self.left.fetch_sub(1, Ordering::SeqCst) == 0;
            if !is_cut {
                to.write_all(&std::mem::take(&mut statement)).await?;
                continue;
            }
            self.cuts.fetch_add(1, Ordering::SeqCst);
            if *self.cut.lock().unwrap() == Cut::After {
                silence.notify_one();
                tokio::task::yield_now().await;
                to.write_all(&statement).await?;
                to.flush().await?;
                // Terminate comes after the statement: PostgreSQL has run it before it goes.
                to.write_all(&[b'X', 0, 0, 0, 4]).await?;
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
            return Ok(());
        }
    }
}

async fn answers(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, silence: Arc<Notify>) {
    tokio::select! {
        biased;
        () = silence.notified() => {}
        _ = tokio::io::copy(&mut from, &mut to) => return,
    }
    // Neither answered nor closed: that is up to whoever cuts.
    std::future::pending().await
}
