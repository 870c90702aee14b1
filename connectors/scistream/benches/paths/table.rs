//! What is printed: for each scene, sample size and path the medians over all rounds, with the smallest and the largest in brackets, of
//!
//! - goodput in Gbit/s: samples times their size over the time from the first sample's arrival to the last's;
//! - processor seconds per 10⁹ bytes, of all processes, and of the gateways alone;
//! - jitter in µs: the standard deviation of the time between arrivals of samples, as the FABRIC paper has it;
//! - goodput, processor seconds and jitter over those of `direct` and `haproxy-ref` (two of them): the median of the rounds' ratios.

use crate::path::Measured;

#[derive(Default)]
pub(crate) struct Table {
    rows: Vec<Row>,
}

struct Row {
    scene: String,
    kind: String,
    size: usize,
    /// By rounds.
    rounds: Vec<Measured>,
}

impl Table {
    pub(crate) fn add(&mut self, scene: &str, kind: &str, size: usize, measured: Measured) {
        let row = self.rows.iter_mut().find(|row| row.scene == scene && row.kind == kind && row.size == size);
        match row {
            Some(row) => row.rounds.push(measured),
            None => self.rows.push(Row { scene: scene.into(), kind: kind.into(), size, rounds: vec![measured] }),
        }
    }

    pub(crate) fn print(&mut self) {
        self.rows.sort_by(|a, b| (&b.scene, a.size).cmp(&(&a.scene, b.size)));
        println!(
            "{:>7} {:>8} {:>12} {:>20} {:>18} {:>6} {:>18} {:>7} {:>24}",
            "scene", "sample", "path", "Gbit/s", "CPU s/GB", "gw", "jitter µs", "/direct", "/haproxy-ref: Gbit CPU σ"
        );
        for row in &self.rows {
            let Row { scene, kind, size, rounds } = row;
            let over = |base: &str, of: fn(&Measured) -> f64| match self.of(scene, base, *size) {
                Some(base) => {
                    let ratios = rounds.iter().zip(&base.rounds).map(|(own, base)| of(own) / of(base));
                    format!("{:.2}", median(ratios.collect()))
                }
                None => "-".into(),
            };
            println!(
                "{scene:>7} {size:>8} {kind:>12} {:>20} {:>18} {:>6.2} {:>18} {:>7} {:>12} {:>5} {:>5}",
                spread(rounds, |one| one.goodput, 1),
                spread(rounds, |one| one.cpu, 2),
                median(rounds.iter().map(|one| one.cpu_gateways).collect()),
                spread(rounds, |one| one.jitter, 0),
                over("direct", |one| one.goodput),
                over("haproxy-ref", |one| one.goodput),
                over("haproxy-ref", |one| one.cpu),
                over("haproxy-ref", |one| one.jitter),
            );
        }
    }

    fn of(&self, scene: &str, kind: &str, size: usize) -> Option<&Row> {
        self.rows.iter().find(|row| row.scene == scene && row.kind == kind && row.size == size)
    }
}

fn spread(rounds: &[Measured], of: fn(&Measured) -> f64, digits: usize) -> String {
    let mut values: Vec<f64> = rounds.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    let (least, most) = (values[0], values[values.len() - 1]);
    format!("{:.digits$} [{least:.digits$}-{most:.digits$}]", median(values))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let (below, above) = (values[(values.len() - 1) / 2], values[values.len() / 2]);
    f64::midpoint(below, above)
}
