//! A path from a source to a sink, over two gateways or none.

use std::net::SocketAddr;
use std::time::Duration;

use tempfile::TempDir;

use crate::options::Options;
use crate::reference::{Side, haproxy, stunnel};
use crate::scene::{Process, Scene};

pub(crate) struct Path<'a> {
    scene: &'a Scene,
    kind: String,
    sink: Process,
    gateways: Vec<Process>,
    /// Where sources connect to.
    entry: SocketAddr,
    /// Of the gateways.
    _files: TempDir,
}

/// What one run showed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measured {
    /// Gbit/s.
    pub(crate) goodput: f64,
    /// Processor seconds per 10⁹ bytes, of all processes.
    pub(crate) cpu: f64,
    /// That of the gateways.
    pub(crate) cpu_gateways: f64,
    /// The standard deviation of the time between samples, in microseconds.
    pub(crate) jitter: f64,
}

impl<'a> Path<'a> {
    /// Starts what it needs.
    pub(crate) fn open(scene: &'a Scene, kind: &str, options: &Options) -> Self {
        let files = tempfile::tempdir().unwrap();
        let mut sink = Process::role(scene, &["sink"]);
        let mut entry = sink.line();
        let mut gateways = Vec::new();
        // As a producer's stream goes that the consumer connects for: the source beyond the consumer's gateway.
        for side in [Side::Producer, Side::Consumer] {
            let (gateway, address) = match kind {
                "direct" => break,
                "haproxy-ref" => haproxy(scene, files.path(), &entry),
                "stunnel-ref" => stunnel(scene, files.path(), side, &entry),
                kind => {
                    let side = if side == Side::Producer { "PROD" } else { "CONS" };
                    let mut arguments = vec!["gateway", kind, side, &entry];
                    arguments.extend(options.forward.iter().map(String::as_str));
                    let mut gateway = Process::role(scene, &arguments);
                    let address = gateway.line();
                    (gateway, address)
                }
            };
            gateways.push(gateway);
            entry = address;
        }
        Self { scene, kind: kind.into(), sink, gateways, entry: entry.parse().unwrap(), _files: files }
    }

    pub(crate) fn scene(&self) -> &str {
        self.scene.name()
    }

    pub(crate) fn kind(&self) -> &str {
        &self.kind
    }

    /// Sends samples for some seconds.
    pub(crate) fn run(&mut self, size: usize, seconds: f64) -> Measured {
        let cpu_before = (self.sink.cpu(), self.cpu_of_gateways());
        let arguments = ["source", &self.entry.to_string(), &size.to_string(), &seconds.to_string()];
        let mut source = Process::role(self.scene, &arguments);
        let of_source = Duration::from_nanos(source.line().parse().unwrap());
        source.wait();
        let received = self.sink.line();
        let of_gateways = self.cpu_of_gateways() - cpu_before.1;
        let of_all = of_source + of_gateways + (self.sink.cpu() - cpu_before.0);

        let mut fields = received.split(' ').map(|field| field.parse::<f64>().unwrap());
        let mut field = || fields.next().expect("the sink prints three numbers");
        let (samples, lasted, sigma) = (field(), field(), field());
        let bytes = samples * size as f64;
        Measured {
            goodput: bytes * 8.0 / lasted / 1e9,
            cpu: of_all.as_secs_f64() / bytes * 1e9,
            cpu_gateways: of_gateways.as_secs_f64() / bytes * 1e9,
            jitter: sigma * 1e6,
        }
    }

    fn cpu_of_gateways(&self) -> Duration {
        self.gateways.iter().map(Process::cpu).sum()
    }
}
