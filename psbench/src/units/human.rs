//! Measured figures for people: three digits that count and a unit.

/// Three significant digits, all those before the decimal point included: `0.12`, `12.3`, `1234`.
pub fn number(value: f64) -> String {
    match value.abs() {
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// An amount of data, in decimal units: `12.3 MB`.
pub fn bytes(bytes: f64) -> String {
    scaled(bytes, &[(1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")], "B")
}

/// A time: `12.3 ms`.
pub fn nanoseconds(nanoseconds: f64) -> String {
    scaled(nanoseconds, &[(1e9, "s"), (1e6, "ms"), (1e3, "µs")], "ns")
}

/// `units` from the largest to the smallest, `one` below them.
fn scaled(value: f64, units: &[(f64, &str)], one: &str) -> String {
    let (unit, name) = units.iter().find(|(unit, _)| value.abs() >= *unit).copied().unwrap_or((1.0, one));
    let number = if unit == 1.0 { format!("{value:.0}") } else { number(value / unit) };
    format!("{number} {name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_short() {
        assert_eq!(
            [0.0, 0.123, 9.994, 12.34, 123.4, 12345.6].map(number),
            ["0.00", "0.12", "9.99", "12.3", "123", "12346"]
        );
        assert_eq!([0.0, 999.0, 1e5, 1.5e6, 2.3e9].map(bytes), ["0 B", "999 B", "100 kB", "1.50 MB", "2.30 GB"]);
        assert_eq!([80.0, 1.5e3, 1.2e7, 3e9].map(nanoseconds), ["80 ns", "1.50 µs", "12.0 ms", "3.00 s"]);
    }
}
