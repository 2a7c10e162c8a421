//! An echo server: a task reads into a pooled buffer, freezes it and sends it to another, which writes several at once.
//!
//! ```text
//! readable -> get_async -> read -> freeze -> channel -> write_vectored -> put, by the last sharer
//! ```
//!
//! No connection holds a buffer while its client is silent. So a few buffers serve any number of connections: who finds
//! none waits its turn, and no thread waits with it.

use std::io::{self, ErrorKind, IoSlice};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use bytepool::{Pool, PooledBytes, Stats};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::task::JoinSet;

/// A buffer's size in bytes.
pub const BUFFER: usize = 16 << 10;

/// Messages of one connection between its reader and its writer.
const BETWEEN: usize = 8;

/// What the clients do.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Clients, each with a connection of its own.
    pub clients: usize,
    /// Messages that each sends, one after the other.
    pub messages: usize,
    /// The most buffers that the server may have at once.
    pub buffers: usize,
}

/// What came of it.
#[derive(Debug)]
pub struct Report {
    /// Messages that came back as they were sent.
    pub messages: usize,
    /// Their bytes.
    pub bytes: usize,
    /// How long all of them took.
    pub time: Duration,
    /// The server's pool, when all connections had ended.
    pub stats: Stats,
}

/// Runs a server under load on loopback.
///
/// # Errors
/// A connection failed, or what came back is not what was sent.
pub fn run(load: Load) -> io::Result<Report> {
    let pool = Pool::builder().size_class(BUFFER, load.buffers).max_bytes(load.buffers * BUFFER);
    let pool = pool.build().map_err(io::Error::other)?;
    let runtime = runtime::Builder::new_multi_thread().worker_threads(2).enable_io().build()?;
    let start = Instant::now();
    let (messages, bytes) = runtime.block_on(serve_clients(&pool, load))?;
    let time = start.elapsed();
    drop(runtime);
    Ok(Report { messages, bytes, time, stats: pool.stats() })
}

async fn serve_clients(pool: &Pool, load: Load) -> io::Result<(usize, usize)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    let mut clients = JoinSet::new();
    for number in 0..load.clients {
        clients.spawn(client(address, number, load.messages));
    }
    let mut connections = JoinSet::new();
    for _ in 0..load.clients {
        let (stream, _) = listener.accept().await?;
        connections.spawn(connection(stream, pool.clone()));
    }
    let mut sums = (0, 0);
    while let Some(client) = clients.join_next().await {
        sums = (sums.0 + load.messages, sums.1 + client??);
    }
    while let Some(connection) = connections.join_next().await {
        connection??;
    }
    Ok(sums)
}

/// Echoes until the client closes.
async fn connection(stream: TcpStream, pool: Pool) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (from, to) = stream.into_split();
    let (sender, receiver) = mpsc::channel(BETWEEN);
    let writer = tokio::spawn(write(to, receiver));
    read(from, &pool, sender).await?;
    writer.await?
}

async fn read(from: OwnedReadHalf, pool: &Pool, sender: Sender<PooledBytes>) -> io::Result<()> {
    loop {
        from.readable().await?;
        let mut buffer = pool.get_async(BUFFER).await?;
        buffer.clear();
        match from.try_read_buf(&mut buffer) {
            Ok(0) => return Ok(()),
            // The writer is gone: its error says why.
            Ok(_) if sender.send(buffer.freeze()).await.is_err() => return Ok(()),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

async fn write(mut to: OwnedWriteHalf, mut receiver: Receiver<PooledBytes>) -> io::Result<()> {
    let mut messages = Vec::with_capacity(BETWEEN);
    while receiver.recv_many(&mut messages, BETWEEN).await > 0 {
        let mut slices = [IoSlice::new(&[]); BETWEEN];
        slices.iter_mut().zip(&messages).for_each(|(slice, message)| *slice = IoSlice::new(message));
        let mut left = &mut slices[..messages.len()];
        while !left.is_empty() {
            let written = to.write_vectored(left).await?;
            if written == 0 {
                return Err(ErrorKind::WriteZero.into());
            }
            IoSlice::advance_slices(&mut left, written);
        }
        messages.clear();
    }
    Ok(())
}

/// Sends messages, each of other bytes and of another length, and compares what comes back; how many bytes that were.
async fn client(address: SocketAddr, number: usize, messages: usize) -> io::Result<usize> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let all: Vec<u8> = (0..2 * BUFFER).map(|at| (at * 31 + number * 7 + (at >> 8)) as u8).collect();
    let (mut received, mut bytes) = (vec![0; BUFFER], 0);
    for message in 0..messages {
        let start = message * 13 % BUFFER;
        let sent = &all[start..start + 1 + (message * 977 + number * 101) % BUFFER];
        let received = &mut received[..sent.len()];
        stream.write_all(sent).await?;
        stream.read_exact(received).await?;
        if received != sent {
            return Err(io::Error::other(format!("message {message} of client {number} came back changed")));
        }
        bytes += sent.len();
    }
    Ok(bytes)
}
