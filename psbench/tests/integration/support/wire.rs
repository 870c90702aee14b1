//! A way to a server on which bytes are counted.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

/// Forwards connections from a port of its own, and counts what comes back on each.
pub(crate) struct Wire {
    pub(crate) address: SocketAddr,
    target: Arc<Mutex<String>>,
    /// Of each connection, bytes from the server.
    counts: Arc<Mutex<Vec<Arc<AtomicU64>>>>,
}

impl Wire {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (target, counts) = (Arc::new(Mutex::new(String::new())), Arc::<Mutex<Vec<_>>>::default());
        let (to, counted) = (Arc::clone(&target), Arc::clone(&counts));
        thread::spawn(move || {
            for client in listener.incoming() {
                let client = client.unwrap();
                let target = to.lock().unwrap().clone();
                // A server that is not there yet is so for the client, too.
                let Ok(server) = TcpStream::connect(target) else { continue };
                let count = Arc::new(AtomicU64::new(0));
                counted.lock().unwrap().push(Arc::clone(&count));
                let (there, back) = (server.try_clone().unwrap(), client.try_clone().unwrap());
                thread::spawn(move || forward(client, there, &AtomicU64::new(0)));
                thread::spawn(move || forward(server, back, &count));
            }
        });
        Self { address, target, counts }
    }

    pub(crate) fn lead_to(&self, server: &str) {
        server.clone_into(&mut self.target.lock().unwrap());
    }

    /// What came so far on the connection on which most came, bytes; the next count begins anew.
    pub(crate) fn most(&self) -> u64 {
        let counts = std::mem::take(&mut *self.counts.lock().unwrap());
        counts.iter().map(|count| count.load(Ordering::Relaxed)).max().unwrap_or(0)
    }
}

fn forward(mut from: TcpStream, mut to: TcpStream, count: &AtomicU64) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        // Ahead of its arrival: whoever knows what came finds it counted.
        count.fetch_add(read as u64, Ordering::Relaxed);
        if to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}
