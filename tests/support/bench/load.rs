//! HTTP requests on persistent connections, with as little client work as possible, because the client shares the machine.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
};

/// Number of answered requests per second on `connections` connections, each of which repeats `request` as soon as it is answered.
pub async fn requests_per_sec(address: SocketAddr, request: &str, connections: usize, during: Duration) -> f64 {
    let begun = Instant::now();
    let mut clients = JoinSet::new();
    for _ in 0..connections {
        let request = request.to_owned();
        clients.spawn(async move {
            let mut connection = Connection::open(address).await;
            let mut answered = 0_u32;
            while begun.elapsed() < during {
                connection.ask(&request).await;
                answered += 1;
            }
            answered
        });
    }
    let answered: u32 = clients.join_all().await.into_iter().sum();
    f64::from(answered) / begun.elapsed().as_secs_f64()
}

pub struct Connection {
    stream: TcpStream,
    received: Vec<u8>,
}

impl Connection {
    pub async fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, received: Vec::with_capacity(16 << 10) }
    }

    /// Sends a request and reads its answer, which must be 200.
    pub async fn ask(&mut self, request: &str) {
        self.stream.write_all(request.as_bytes()).await.unwrap();
        self.received.clear();
        loop {
            assert!(self.stream.read_buf(&mut self.received).await.unwrap() > 0, "the server closed the connection");
            let Some(head) = self.received.windows(4).position(|w| w == b"\r\n\r\n") else { continue };
            let text = std::str::from_utf8(&self.received[..head]).unwrap();
            assert!(text.starts_with("HTTP/1.1 200"), "{text}: {}", String::from_utf8_lossy(&self.received[head..]));
            let length = text.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse::<usize>().ok());
            if self.received.len() >= head + 4 + length.unwrap() {
                return;
            }
        }
    }
}

/// A GET of a path, with a token if one is given.
pub fn get(path: &str, token: Option<&str>) -> String {
    let authorization = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
    format!("GET {path} HTTP/1.1\r\nHost: bench\r\n{authorization}\r\n")
}
