//! How QUIC is set up for a path: windows, congestion control, sizes of packets, times.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use quinn::congestion::{BbrConfig, ControllerFactory, CubicConfig, NewRenoConfig};
use quinn::{
    AckFrequencyConfig, ConfigError, EndpointConfig, IdleTimeout, MtuDiscoveryConfig, TransportConfig, VarInt,
};

use crate::forward::{Congestion, ForwardOptions};

/// Largest UDP payload, in bytes. Sizes up to it are tried on each path, halving what is uncertain: the first try is one that jumbo
/// frames (9000 bytes) carry. Beyond that it is for gateways on one host, where the time that each packet takes counts: 32,000 gave no more,
/// 65,000 gave a tenth at samples of 1 MiB and nothing at 64 KiB, and would take other paths some round trips more to find their own.
pub(super) const LARGEST_PACKET: u16 = 16_000;

/// Streams that a connection has at a time; whoever comes next waits for one to end.
pub(super) const STREAMS: u32 = 1024;

/// The rate that windows are sized for, in bytes/s: 10 Gbit/s.
const GOAL: u64 = 10_000_000_000 / 8;

/// The smallest window of one stream, in bytes, whatever may be held of it: four packets, which is what is sent at once.
const SMALLEST_WINDOW: u64 = 4 * LARGEST_PACKET as u64;

/// The largest window of one stream, in bytes: [`GOAL`] at 400 ms.
const LARGEST_WINDOW: u64 = 512 << 20;

/// What a gateway keeps of all streams until the other one has acknowledged it, beside what the path holds, in bytes: few enough to stay
/// in the processor's cache. Over loopback 4 MB and 8 MB carried no more, with up to twice the jitter.
const UNACKNOWLEDGED: u64 = 2 << 20;

/// What all streams of a connection together may have in a gateway, in bytes, unless four of them take more. Beyond it streams wait
/// for each other, so this is much more than what those of consumers who keep up have there.
const SHARED_WINDOW: u64 = 1 << 30;

/// From here on a path is long, and its losses are likelier to be the network's than this sender's.
const LONG: Duration = Duration::from_millis(1);

/// Times of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    /// After how long without a packet both gateways give the connection up.
    pub(super) lost: Duration,
    /// After how long without a packet the one that connects tries from another port of its own.
    pub(super) silent: Duration,
    /// After how long without a packet it asks for one. Bindings of NAT devices for UDP live for 30 s and longer (RFC 4787 asks for two
    /// minutes), some firewalls' for less.
    pub(super) keep_alive: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self { lost: Duration::from_secs(30), silent: Duration::from_secs(8), keep_alive: Duration::from_secs(3) }
    }
}

/// The receive window of a stream on a path with this round-trip time: what a gateway may hold of it, and what the path itself holds at
/// the rate of 10 Gbit/s.
pub(super) fn window(options: &ForwardOptions, round_trip: Duration) -> u64 {
    held_by(round_trip).saturating_add(options.buffer_size as u64).clamp(SMALLEST_WINDOW, LARGEST_WINDOW)
}

/// What a gateway has of all streams until the other one has acknowledged it, on a path with this round-trip time, in bytes.
fn send_window(round_trip: Duration) -> u64 {
    UNACKNOWLEDGED + held_by(round_trip)
}

/// Whether a connection that was set up for one round-trip time does on a path that turned out to have another: none of its windows
/// is much too small or too large, and congestion control is the one for such a path.
pub(super) fn fits(options: &ForwardOptions, was: Duration, is: Duration) -> bool {
    let near = |was: u64, is: u64| (was / 2..=was + was / 4).contains(&is);
    near(window(options, was), window(options, is))
        && near(send_window(was), send_window(is))
        && (options.congestion != Congestion::Auto || (was < LONG) == (is < LONG))
}

/// What a path with this round-trip time holds at that rate, in bytes.
fn held_by(round_trip: Duration) -> u64 {
    let bytes = u128::from(GOAL) * round_trip.as_nanos() / Duration::from_secs(1).as_nanos();
    u64::try_from(bytes).map_or(LARGEST_WINDOW, |bytes| bytes.min(LARGEST_WINDOW))
}

/// Sets up a connection over a path with this round-trip time.
pub(super) fn transport(options: &ForwardOptions, times: Times, round_trip: Duration) -> Arc<TransportConfig> {
    let window = window(options, round_trip);
    let of = |bytes: u64| VarInt::from_u64(bytes).unwrap_or(VarInt::MAX);
    let mut mtu = MtuDiscoveryConfig::default();
    mtu.upper_bound(LARGEST_PACKET).black_hole_cooldown(Duration::from_secs(5));
    let mut acks = AckFrequencyConfig::default();
    acks.ack_eliciting_threshold(VarInt::from_u32(10));
    let mut config = TransportConfig::default();
    config
        .stream_receive_window(of(window))
        .receive_window(of(SHARED_WINDOW.max(4 * window)))
        .send_window(send_window(round_trip))
        .max_concurrent_bidi_streams(VarInt::from_u32(STREAMS))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None)
        .max_idle_timeout(IdleTimeout::try_from(times.lost).ok())
        .keep_alive_interval(Some(times.keep_alive))
        // A gateway that is not there yet is asked again soon.
        .initial_rtt(Duration::from_millis(100))
        .mtu_discovery_config(Some(mtu))
        .ack_frequency_config(Some(acks))
        .congestion_controller_factory(congestion(&options.congestion, round_trip));
    Arc::new(config)
}

/// Sets up an endpoint.
///
/// # Errors
/// None: QUIC allows packets of this size.
pub(super) fn endpoint() -> Result<EndpointConfig, ConfigError> {
    let mut config = EndpointConfig::default();
    config.max_udp_payload_size(LARGEST_PACKET)?;
    Ok(config)
}

/// Whether there is such a congestion control.
pub(super) fn is_known(congestion: &Congestion) -> bool {
    match congestion {
        Congestion::Auto | Congestion::System => true,
        Congestion::Named(name) => named(name).is_some(),
    }
}

fn congestion(congestion: &Congestion, round_trip: Duration) -> Arc<dyn ControllerFactory + Send + Sync> {
    let name = match congestion {
        Congestion::Named(name) => name.clone(),
        Congestion::System => fs::read_to_string("/proc/sys/net/ipv4/tcp_congestion_control").unwrap_or_default(),
        Congestion::Auto if round_trip < LONG => "cubic".into(),
        Congestion::Auto => "bbr".into(),
    };
    named(name.trim()).unwrap_or_else(|| Arc::new(CubicConfig::default()))
}

fn named(name: &str) -> Option<Arc<dyn ControllerFactory + Send + Sync>> {
    match name {
        "bbr" => Some(Arc::new(BbrConfig::default())),
        "cubic" => Some(Arc::new(CubicConfig::default())),
        "reno" => Some(Arc::new(NewRenoConfig::default())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_hold_what_the_path_holds() {
        let options = ForwardOptions { buffer_size: 10_000_000, ..ForwardOptions::default() };
        assert_eq!(window(&options, Duration::ZERO), 10_000_000);
        assert_eq!(window(&options, Duration::from_millis(144)), 190_000_000);
        assert_eq!(window(&options, Duration::from_secs(1000)), LARGEST_WINDOW);
        assert_eq!(window(&ForwardOptions { buffer_size: 1, ..options.clone() }, Duration::ZERO), SMALLEST_WINDOW);
        assert_eq!(window(&ForwardOptions { buffer_size: usize::MAX, ..options }, Duration::ZERO), LARGEST_WINDOW);
    }

    #[test]
    fn a_connection_is_kept_only_on_a_path_like_the_one_it_was_set_up_for() {
        let millis = Duration::from_millis;
        let large = ForwardOptions { buffer_size: 512 << 20, ..ForwardOptions::default() };
        let system = ForwardOptions { congestion: Congestion::System, ..large.clone() };
        assert!(fits(&large, Duration::ZERO, Duration::from_micros(300)));
        assert!(fits(&large, millis(144), millis(150)));
        // A large receive window hides neither that the other one is too small nor that congestion control is the wrong one.
        assert!(!fits(&system, Duration::ZERO, millis(144)));
        assert!(!fits(&large, Duration::from_micros(800), Duration::from_micros(1100)));
        assert!(fits(&system, Duration::from_micros(800), Duration::from_micros(1100)));
    }

    #[test]
    fn congestion_controls_go_by_the_kernels_names() {
        for name in ["bbr", "cubic", "reno"] {
            assert!(is_known(&Congestion::Named(name.into())));
        }
        assert!(!is_known(&Congestion::Named("none-such".into())));
        assert!(is_known(&Congestion::Auto) && is_known(&Congestion::System));
    }
}
