//! What is told, and by which names.

use std::collections::HashSet;
use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::{MetricType, TypedMetric};
use prometheus_client::registry::Unit;
use ring::digest;
use uuid::Uuid;

use super::Snapshot;
use crate::control::{SessionReport, SessionStage};
use crate::forward::Traffic;

/// Bytes of a session's name, in hexadecimal.
const SHOWN: usize = 4;

/// Labels of one series.
type Labels<'a> = Vec<(&'static str, &'a str)>;

/// Something that sessions count.
type Count = fn(Traffic) -> u64;

/// Asks for a snapshot at each scrape.
pub(super) struct Families<F>(pub(super) F);

impl<F> fmt::Debug for Families<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Families")
    }
}

impl<F: Fn() -> Snapshot + Send + Sync + 'static> Collector for Families<F> {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Snapshot { sessions, ports } = (self.0)();
        let mut page = Page(encoder);
        page.gauge(
            "ports",
            "Ports of sessions, by whether one has them",
            None,
            &[
                (vec![("state", "free")], ports.free as f64),
                (vec![("state", "taken")], ports.total.saturating_sub(ports.free) as f64),
            ],
        )?;
        let stages = [SessionStage::Requested, SessionStage::Greeted, SessionStage::Forwarding, SessionStage::Ended];
        let count = |stage| sessions.iter().filter(|session| session.stage == stage).count() as f64;
        let by_stage = stages.map(|stage| (vec![("stage", stage.as_str())], count(stage)));
        page.gauge("sessions", "Sessions, by how far they have come", None, &by_stage)?;
        page.sessions(&sessions)
    }
}

struct Page<'a>(DescriptorEncoder<'a>);

impl Page<'_> {
    fn sessions(&mut self, sessions: &[SessionReport]) -> fmt::Result {
        let names: Vec<_> = sessions.iter().map(Name::of).collect();
        // Of two by one name, which somebody would have to look for, the first is told of: Prometheus refuses all otherwise.
        let mut told = HashSet::new();
        let sessions: Vec<_> =
            names.iter().zip(sessions).filter(|(name, _)| told.insert((&name.session, &name.role))).collect();
        let gauge = |value: fn(&SessionReport) -> f64| {
            sessions.iter().map(|(name, session)| (name.labels(), value(session))).collect::<Vec<_>>()
        };
        let traffic = |value: Count| {
            let told = sessions.iter().filter_map(|&(name, session)| Some((name.labels(), value(session.traffic?))));
            told.collect::<Vec<_>>()
        };
        let ways: [(&str, Count); 2] = [("to_target", |it| it.bytes_to_target), ("to_client", |it| it.bytes_to_client)];
        let bytes: Vec<_> = ways
            .iter()
            .flat_map(|(way, value)| {
                traffic(*value).into_iter().map(move |(mut labels, value)| {
                    labels.push(("direction", way));
                    (labels, value)
                })
            })
            .collect();
        self.counter("session", "Bytes that were forwarded", Some(&Unit::Bytes), &bytes)?;
        self.counter("session_connections", "Connections that came", None, &traffic(|it| it.connections_total))?;
        let refused = traffic(|it| it.connections_refused);
        self.counter("session_connections_refused", "Connections whose target did not accept them", None, &refused)?;
        let reset = traffic(|it| it.connections_reset);
        self.counter("session_connections_reset", "Connections that ended by a reset", None, &reset)?;
        self.counter("session_datagrams_dropped", "Datagrams that were dropped", None, &traffic(|it| it.dropped))?;
        let open = floats(traffic(|it| it.connections_open));
        self.gauge("session_connections_open", "Connections that are there", None, &open)?;
        let buffered = floats(traffic(|it| it.buffered));
        self.gauge("session_buffered", "Bytes that were read and not yet written", Some(&Unit::Bytes), &buffered)?;
        let per_second = Unit::Other("bits_per_second".to_owned());
        let measured = gauge(|session| 1000.0 * session.rate_measured as f64);
        self.gauge("session_rate", "Over the last seconds, the sum of both ways", Some(&per_second), &measured)?;
        let asked = gauge(|session| 1000.0 * session.rate_asked as f64);
        self.gauge("session_rate_asked", "What the user client asked for; 0: nothing", Some(&per_second), &asked)?;
        let age = gauge(|session| session.age.as_secs_f64());
        self.gauge("session_age", "Since it was requested", Some(&Unit::Seconds), &age)?;
        let broken = gauge(|session| f64::from(u8::from(session.problem.is_some())));
        self.gauge("session_broken", "Whether its data server can't go on", None, &broken)
    }

    fn gauge(&mut self, name: &str, help: &str, unit: Option<&Unit>, series: &[(Labels<'_>, f64)]) -> fmt::Result {
        self.family(name, help, unit, ConstGauge::<f64>::TYPE, series, ConstGauge::new)
    }

    fn counter(&mut self, name: &str, help: &str, unit: Option<&Unit>, series: &[(Labels<'_>, u64)]) -> fmt::Result {
        self.family(name, help, unit, ConstCounter::<u64>::TYPE, series, ConstCounter::new)
    }

    fn family<V: Copy, M: EncodeMetric>(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        kind: MetricType,
        series: &[(Labels<'_>, V)],
        metric: fn(V) -> M,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, unit, kind)?;
        for (labels, value) in series {
            metric(*value).encode(family.encode_family(labels)?)?;
        }
        Ok(())
    }
}

fn floats(series: Vec<(Labels<'_>, u64)>) -> Vec<(Labels<'_>, f64)> {
    series.into_iter().map(|(labels, value)| (labels, value as f64)).collect()
}

/// What tells a session from others.
struct Name {
    session: String,
    role: String,
    kind: &'static str,
    identity: String,
}

impl Name {
    fn of(session: &SessionReport) -> Self {
        Self {
            session: short_name(session.uid),
            role: session.role.to_string(),
            kind: session.kind.as_str(),
            identity: escaped(session.identity.as_str()),
        }
    }

    fn labels(&self) -> Labels<'_> {
        vec![("session", &self.session), ("role", &self.role), ("type", self.kind), ("identity", &self.identity)]
    }
}

/// What tells a session from others. Nothing of its UUID: whoever knows that can release the session, and derive its key where the user
/// client made none.
fn short_name(uid: Uuid) -> String {
    let mut named = digest::Context::new(&digest::SHA256);
    named.update(b"psbench metrics");
    named.update(uid.as_bytes());
    named.finish().as_ref().iter().take(SHOWN).map(|byte| format!("{byte:02x}")).collect()
}

/// As a label's value has to be (OpenMetrics 1.0, `escaped-string`).
fn escaped(text: &str) -> String {
    text.replace('\\', r"\\").replace('"', r#"\""#).replace('\n', r"\n")
}
