//! How the sessions of a control server fare, for people.

use std::time::Duration;

use comfy_table::Cell;
use scistream::proto::gateway::{Session, StatusReply, Usage};

use super::grid::grid;
use crate::units::human;

const TITLES: [&str; 10] =
    ["session", "role", "stage", "type", "age", "open", "total", "to target", "to client", "Mbit/s"];

/// A line on the control server, a row for each session, and below it what leads where and what is wrong.
pub fn gateway(reply: &StatusReply) -> String {
    let StatusReply { version, types, ports_free, ports_total, sessions, sessions_total, usage } = reply;
    let mut text = format!("psbench {version}, types {}, {ports_free} of {ports_total} ports free", types.join(", "));
    if let Some(Usage { cpu_ns, peak_memory_bytes, .. }) = usage {
        let cpu = human::number(*cpu_ns as f64 / 1e9);
        text = format!("{text}, {cpu} s of CPU time, {} of memory", human::bytes(*peak_memory_bytes as f64));
    }
    let others = sessions_total.saturating_sub(sessions.len() as u64);
    if sessions.is_empty() {
        return text + if others > 0 { ", only others' sessions" } else { ", no sessions" };
    }
    let mut table = grid(&TITLES, &["session", "role", "stage", "type"]);
    for session in sessions {
        table.add_row(row(session));
    }
    text = format!("{text}\n{}", table.trim_fmt());
    for session in sessions {
        for (index, listener) in session.listeners.iter().enumerate() {
            let target = session.targets.get(index).map_or("?", String::as_str);
            text = format!("{text}\n{}: {listener} → {target}", short(&session.uid));
        }
        if !session.problem.is_empty() {
            text = format!("{text}\n{}: WARNING {}", short(&session.uid), session.problem);
        }
    }
    text
}

fn row(session: &Session) -> Vec<Cell> {
    let traffic = |value: fn(&scistream::proto::gateway::Traffic) -> String| {
        session.traffic.as_ref().map_or_else(|| "–".to_owned(), value)
    };
    let asked = if session.rate_enforced { format!(" of {}", megabits(session.rate_asked)) } else { String::new() };
    [
        session.uid.clone(),
        session.role.clone(),
        session.stage.clone(),
        session.r#type.clone(),
        humantime::format_duration(Duration::from_secs(session.age_ms / 1000)).to_string(),
        traffic(|it| it.connections_open.to_string()),
        traffic(|it| it.connections_total.to_string()),
        traffic(|it| human::bytes(it.bytes_to_target as f64)),
        traffic(|it| human::bytes(it.bytes_to_client as f64)),
        format!("{}{asked}", megabits(session.rate_measured)),
    ]
    .map(Cell::new)
    .into()
}

fn megabits(kilobits: u64) -> String {
    human::number(kilobits as f64 / 1000.0)
}

/// Enough to tell a session from the others of the table.
fn short(uid: &str) -> &str {
    uid.get(..8).unwrap_or(uid)
}

#[cfg(test)]
mod tests {
    use scistream::proto::gateway::Traffic;

    use super::*;

    #[test]
    fn sessions_are_rows_and_say_where_they_lead() {
        let session = Session {
            uid: "01234567-89ab-4cde-8f01-23456789abcd".into(),
            role: "PROD".into(),
            stage: "forwarding".into(),
            r#type: "copy".into(),
            listeners: vec!["10.0.0.1:5100".into()],
            targets: vec!["app:5074".into()],
            age_ms: 61_000,
            rate_measured: 8_000_000,
            traffic: Some(Traffic { bytes_to_target: 1_000_000_000, connections_open: 2, ..Traffic::default() }),
            problem: "HAProxy ended".into(),
            ..Session::default()
        };
        let reply = StatusReply {
            version: "0.1.0".into(),
            types: vec!["copy".into(), "tls".into()],
            ports_free: 100,
            ports_total: 101,
            sessions: vec![session],
            sessions_total: 1,
            usage: Some(Usage { cpu_ns: 1_500_000_000, peak_memory_bytes: 12_000_000, began_us: 1 }),
        };
        let told = gateway(&reply);
        let lines: Vec<_> = told.lines().collect();
        assert_eq!(
            lines[0],
            "psbench 0.1.0, types copy, tls, 100 of 101 ports free, 1.50 s of CPU time, 12.0 MB of memory"
        );
        let words: Vec<_> = lines[3].split_whitespace().collect();
        assert_eq!(words[1..], ["PROD", "forwarding", "copy", "1m", "1s", "2", "0", "1.00", "GB", "0", "B", "8000"]);
        assert_eq!(lines[4..], ["01234567: 10.0.0.1:5100 → app:5074", "01234567: WARNING HAProxy ended"]);
        let others = StatusReply { sessions: Vec::new(), usage: None, ..reply };
        assert_eq!(gateway(&others), "psbench 0.1.0, types copy, tls, 100 of 101 ports free, only others' sessions");
        let none = StatusReply { sessions_total: 0, ..others };
        assert_eq!(gateway(&none), "psbench 0.1.0, types copy, tls, 100 of 101 ports free, no sessions");
    }
}
