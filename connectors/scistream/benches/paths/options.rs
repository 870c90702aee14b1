//! What is measured.

use scistream::dataserver::{Congestion, ForwardOptions};

pub(crate) struct Options {
    /// Of paths: `direct`, `haproxy-ref`, `stunnel-ref`, or a type of data server.
    pub(crate) types: Vec<String>,
    /// Of samples, in bytes.
    pub(crate) sizes: Vec<usize>,
    pub(crate) repeat: usize,
    /// Of each measurement.
    pub(crate) seconds: f64,
    pub(crate) scenes: Vec<String>,
    /// Of our own gateways, as given: handed on to their processes.
    pub(crate) forward: Vec<String>,
}

impl Options {
    pub(crate) fn parse(arguments: &[String]) -> Self {
        let list = |text: &str| text.split(',').map(String::from).collect::<Vec<_>>();
        let mut options = Self {
            types: list("direct,haproxy-ref,copy,splice"),
            sizes: [1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20].into(),
            repeat: 5,
            seconds: 1.0,
            scenes: list("system,reno"),
            forward: Vec::new(),
        };
        for pair in arguments.chunks(2) {
            let [name, value] = pair else { panic!("{} wants a value", pair[0]) };
            match name.as_str() {
                "--types" => options.types = list(value),
                "--sizes" => options.sizes = list(value).iter().map(|size| bytes(size)).collect(),
                "--repeat" => options.repeat = value.parse().expect("--repeat wants a number"),
                "--seconds" => options.seconds = value.parse().expect("--seconds wants a number"),
                "--scenes" => options.scenes = list(value),
                "--buffer-size" | "--socket-buffer" | "--congestion" => options.forward.extend_from_slice(pair),
                other => panic!(
                    "no such option: {other}; there are --types, --sizes, --repeat, --seconds, --scenes, --buffer-size, \
                     --socket-buffer and --congestion"
                ),
            }
        }
        options
    }
}

/// How a gateway forwards.
pub(crate) fn forward(arguments: &[String]) -> ForwardOptions {
    let mut options = ForwardOptions::default();
    for pair in arguments.chunks(2) {
        let [name, value] = pair else { panic!("{} wants a value", pair[0]) };
        match (name.as_str(), value.as_str()) {
            ("--buffer-size", value) => options.buffer_size = bytes(value),
            ("--socket-buffer", value) => options.socket_buffer = Some(bytes(value)),
            ("--congestion", "auto") => options.congestion = Congestion::Auto,
            ("--congestion", "system") => options.congestion = Congestion::System,
            ("--congestion", name) => options.congestion = Congestion::Named(name.into()),
            (other, _) => panic!("no such option of gateways: {other}"),
        }
    }
    options
}

/// `64K` and `1M` are powers of two.
fn bytes(text: &str) -> usize {
    let (digits, unit) = match text.strip_suffix(['K', 'M']) {
        Some(digits) if text.ends_with('K') => (digits, 1 << 10),
        Some(digits) => (digits, 1 << 20),
        None => (text, 1),
    };
    digits.parse::<usize>().expect("sizes are numbers, with K or M") * unit
}
