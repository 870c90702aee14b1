//! What there is on a host, for people.

use std::fmt::Write as _;

use super::grid::{GAP, coloured, terminal_width};
use crate::doctor::{Diagnosis, Finding, State};

/// At no terminal, and most at any: lines are to be read.
const WIDTHS: (usize, usize) = (100, 120);
/// Less is left to what no option needs.
const LEAST: usize = 24;
const GAP_WIDTH: usize = GAP as usize;

/// A line for each finding, grouped; below it what to do, where there is something.
pub fn diagnosis(diagnosis: &Diagnosis) -> String {
    let (usual, most) = WIDTHS;
    let width = terminal_width().map_or(usual, |width| usize::from(width).min(most));
    Layout::new(diagnosis, width, coloured()).text(diagnosis)
}

struct Layout {
    name: usize,
    what: usize,
    /// Of all.
    width: usize,
    coloured: bool,
}

/// How a part stands out (ECMA-48).
#[derive(Clone, Copy)]
enum Look {
    Bold = 1,
    Dim = 2,
    Green = 32,
    Yellow = 33,
}

impl Layout {
    fn new(diagnosis: &Diagnosis, width: usize, coloured: bool) -> Self {
        let findings = || diagnosis.groups.iter().flat_map(|group| &group.findings);
        let name = findings().map(|finding| length(&finding.name)).max().unwrap_or_default();
        let option =
            findings().filter_map(|finding| finding.needed_for.as_deref()).map(length).max().unwrap_or_default();
        let before = Self { name, what: 0, width, coloured }.indent();
        let what = width.saturating_sub(before + GAP_WIDTH + option).max(LEAST);
        Self { name, what, width, coloured }
    }

    /// Columns before what was found: a margin, the name, a gap, the state.
    fn indent(&self) -> usize {
        GAP_WIDTH + self.name + GAP_WIDTH + 2
    }

    fn text(&self, diagnosis: &Diagnosis) -> String {
        let mut text = String::new();
        for group in &diagnosis.groups {
            let _ = writeln!(text, "{}", self.paint(&group.title, Look::Bold));
            for finding in &group.findings {
                self.finding(&mut text, finding);
            }
            text.push('\n');
        }
        let mut findings = diagnosis.groups.iter().flat_map(|group| &group.findings);
        if findings.any(|finding| finding.state == State::Missing) {
            text.push_str("What is missing (–) is needed for what stands beside it, and for nothing else.");
        }
        text.trim_end().to_owned()
    }

    fn finding(&self, text: &mut String, finding: &Finding) {
        let (sign, look) = match finding.state {
            State::Present => ("✓", Look::Green),
            State::Missing => ("–", Look::Yellow),
        };
        let margin = " ".repeat(GAP_WIDTH);
        let indent = " ".repeat(self.indent());
        let room = self.width.saturating_sub(self.indent()).max(LEAST);
        let mut lines = wrapped(&finding.what, self.what).into_iter();
        let first = lines.next().unwrap_or_default();
        let _ = write!(text, "{margin}{:<1$}{margin}{2} {first}", finding.name, self.name, self.paint(sign, look));
        if let Some(option) = &finding.needed_for {
            let filling = " ".repeat(self.what.saturating_sub(length(&first)) + GAP_WIDTH);
            let _ = write!(text, "{filling}{}", self.paint(option, Look::Dim));
        }
        text.push('\n');
        for line in lines {
            let _ = writeln!(text, "{indent}{line}");
        }
        for line in finding.remark.iter().flat_map(|remark| wrapped(remark, room)) {
            let _ = writeln!(text, "{indent}{}", self.paint(&line, Look::Dim));
        }
        for step in finding.remedy.iter().flat_map(|remedy| remedy.lines()) {
            for (number, line) in wrapped(step, room - 2).iter().enumerate() {
                let arrow = if number == 0 { &*self.paint("→", Look::Yellow) } else { " " };
                let _ = writeln!(text, "{indent}{arrow} {line}");
            }
        }
    }

    fn paint(&self, text: &str, look: Look) -> String {
        if self.coloured { format!("\x1b[{}m{text}\x1b[0m", look as u8) } else { text.to_owned() }
    }
}

fn length(text: &str) -> usize {
    text.chars().count()
}

/// Lines of whole words; a word that is longer than a line, as a path may be, has one of its own.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if length(line) + 1 + length(word) <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Group;

    fn sample() -> Diagnosis {
        let finding = |name: &str, state, what: &str, needed_for: Option<&str>, remedy: Option<&str>| Finding {
            name: name.into(),
            state,
            what: what.into(),
            needed_for: needed_for.map(Into::into),
            remark: None,
            remedy: remedy.map(Into::into),
        };
        let findings = vec![
            finding("ssh", State::Present, "OpenSSH_9.2p1", Some("--executor ssh"), None),
            finding(
                "mpiexec",
                State::Missing,
                "not on the PATH",
                Some("--executor mpi"),
                Some("apt-get update\ninstall an MPI, as by apt-get install openmpi-bin, or name it by --launcher"),
            ),
            finding("kernel", State::Present, "Linux 6.1", None, None),
        ];
        Diagnosis { psbench: "0.1.0".into(), groups: vec![Group { title: "Launchers".into(), findings }] }
    }

    #[test]
    fn columns_are_aligned_and_remedies_below() {
        let diagnosis = sample();
        assert_eq!(
            Layout::new(&diagnosis, 64, false).text(&diagnosis),
            "\
Launchers
  ssh      ✓ OpenSSH_9.2p1                        --executor ssh
  mpiexec  – not on the PATH                      --executor mpi
             → apt-get update
             → install an MPI, as by apt-get install
               openmpi-bin, or name it by --launcher
  kernel   ✓ Linux 6.1

What is missing (–) is needed for what stands beside it, and for nothing else."
        );
        let coloured = Layout::new(&diagnosis, 64, true).text(&diagnosis);
        assert!(coloured.starts_with("\x1b[1mLaunchers\x1b[0m\n"), "{coloured}");
    }

    #[test]
    fn long_words_stay_whole() {
        assert_eq!(wrapped("no /a/very/long/path there", 8), ["no", "/a/very/long/path", "there"]);
        assert_eq!(wrapped("", 8), [""; 0]);
    }
}
