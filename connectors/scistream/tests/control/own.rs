//! What a test has for itself.

use std::net::{IpAddr, Ipv4Addr};
use std::process;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

/// For what takes no time unless it hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A loopback address that nobody else uses.
pub(crate) fn own_address() -> IpAddr {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let [.., high, low] = process::id().to_be_bytes();
    Ipv4Addr::new(127, high.max(1), low, NEXT.fetch_add(1, Ordering::Relaxed)).into()
}
