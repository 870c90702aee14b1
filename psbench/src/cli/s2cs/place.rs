//! Where a control server is.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use scistream::control::PortMap;

use crate::options::OptionError;

const HEADING: &str = "Where it is";

/// Where a control server is, and how others reach it.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = HEADING)]
pub(super) struct PlaceOptions {
    /// The port at which user clients ask; 0 takes any
    #[arg(long, default_value_t = 5000)]
    port: u16,

    /// The address of the sessions' ports, and of --port; 0.0.0.0 or :: are all of this host's [default: 127.0.0.1]
    #[arg(long, value_name = "IP")]
    listener_ip: Option<IpAddr>,

    /// The address of --port, where it is another
    #[arg(long, value_name = "IP")]
    control_ip: Option<IpAddr>,

    /// The host that others are told to connect to: this host's address as the other gateway and consumers reach it [default:
    /// --listener-ip, or the address at which a user client reached this server]
    #[arg(long, value_name = "HOST")]
    advertise: Option<String>,

    /// The ports of sessions
    #[arg(long, value_name = "FIRST-LAST", default_value_t = PortMap::default())]
    port_range: PortMap,

    /// The ports of sessions, and what others are told of them where NAT, a container or a NodePort maps them: 5100-5200:30700-30800
    #[arg(long, value_name = "MAP", conflicts_with = "port_range")]
    port_map: Option<PortMap>,

    /// Where Prometheus may ask (GET /metrics): ADDR:PORT, or a port of 127.0.0.1
    #[arg(long, value_name = "ADDR", value_parser = metrics_address)]
    pub(super) metrics: Option<SocketAddr>,
}

impl PlaceOptions {
    pub(super) fn listener_ip(&self) -> IpAddr {
        self.listener_ip.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
    }

    pub(super) fn control(&self) -> SocketAddr {
        SocketAddr::new(self.control_ip.unwrap_or_else(|| self.listener_ip()), self.port)
    }

    pub(super) fn ports(&self) -> PortMap {
        self.port_map.unwrap_or(self.port_range)
    }

    pub(super) fn advertise(&self) -> Option<String> {
        self.advertise.clone()
    }

    /// What `without_tls`, an option, demands.
    pub(super) fn only_this_host(&self, without_tls: &str) -> Result<(), OptionError> {
        for (option, ip) in [("--listener-ip", self.listener_ip()), ("--control-ip", self.control().ip())] {
            if !ip.is_loopback() {
                let problem = format!(
                    "{without_tls} serves this host alone; leave it out and make a certificate (psbench s2cs init)"
                );
                return Err(OptionError::invalid(option, &ip, problem));
            }
        }
        Ok(())
    }
}

fn metrics_address(text: &str) -> Result<SocketAddr, String> {
    let port = text.parse().map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    port.or_else(|_| text.parse()).map_err(|_| "expected ADDR:PORT, such as 127.0.0.1:9100, or a port".to_owned())
}
