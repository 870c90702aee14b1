//! UDP, where a type forwards it.

use std::net::UdpSocket;

use super::SOON;
use super::bench::{Bench, LOOPBACK, Session};
use crate::Role;
use crate::dataserver::DataServerError;
use crate::forward::Transport;

fn socket() -> UdpSocket {
    let socket = UdpSocket::bind((LOOPBACK, 0)).unwrap();
    socket.set_read_timeout(Some(SOON)).unwrap();
    socket
}

pub(super) fn datagrams_are_forwarded_or_refused(bench: &Bench) {
    let session = Session { transport: Transport::Udp, ..Session::new() };
    let host = socket();
    let target = host.local_addr().unwrap().to_string().parse().unwrap();
    let route = bench.try_route(&session, &[target]);
    if !bench.server(Role::Producer).forwards_udp() {
        let refused = matches!(route, Err(DataServerError::Unsupported { .. }));
        assert!(refused, "a type that does not forward UDP says so when a session starts");
        return;
    }
    let route = route.expect("a session did not start");
    let clients = [socket(), socket(), socket()];
    for client in &clients {
        client.connect(route.entrance()).unwrap();
    }
    let mut buffer = vec![0; 64 << 10];
    for size in [0, 1, 1400, 9000, 60_000] {
        for (client, name) in clients.iter().zip(1..) {
            let datagram = vec![name; size];
            client.send(&datagram).unwrap();
            let (received, from) = host.recv_from(&mut buffer).expect("a datagram does not arrive");
            assert!(buffer[..received] == datagram, "a datagram of {size} bytes came changed");
            // Back to its client and no other one.
            host.send_to(&buffer[..received], from).unwrap();
            let received = client.recv(&mut buffer).expect("an answer does not arrive");
            assert!(buffer[..received] == datagram, "an answer of {size} bytes came changed, or is another client's");
        }
    }
    bench.release(route);
}
