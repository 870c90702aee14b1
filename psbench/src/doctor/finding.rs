//! What was found.

use std::fmt::Display;

use serde::Serialize;

/// All that was looked at; what `psbench doctor --json` prints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diagnosis {
    /// psbench's version.
    pub psbench: String,
    /// In the order in which they are told.
    pub groups: Vec<Group>,
}

/// Findings of one kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Group {
    /// What they have in common.
    pub title: String,
    /// What was looked at, each whether it is there or not.
    pub findings: Vec<Finding>,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Its name.
    pub name: String,
    /// Whether it can be used.
    pub state: State,
    /// Its version and place, or a figure; of what is missing, why.
    pub what: String,
    /// The option or command that needs it; absent where it bears on every run.
    pub needed_for: Option<String>,
    /// What of it bears on figures or may surprise.
    pub remark: Option<String>,
    /// What to do to get it, or to change what was remarked: a line for each step.
    pub remedy: Option<String>,
}

/// Whether something can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It is there.
    Present,
    /// It is not, or is of no use.
    Missing,
}

impl Finding {
    /// Of something that is there.
    pub(super) fn present(name: impl Into<String>, what: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            state: State::Present,
            what: what.into(),
            needed_for: None,
            remark: None,
            remedy: None,
        }
    }

    /// Of something that is not.
    pub(super) fn missing(name: impl Into<String>, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { state: State::Missing, remedy: Some(remedy.into()), ..Self::present(name, what) }
    }

    /// Of something that psbench refuses elsewhere by this error. psbench's errors end in what to do, behind a semicolon.
    pub(super) fn refused(name: impl Into<String>, error: &dyn Display, otherwise: &str) -> Self {
        let error = error.to_string();
        let (what, remedy) = error.rsplit_once("; ").unwrap_or((&error, otherwise));
        Self::missing(name, what, remedy)
    }

    /// With the option that needs it.
    pub(super) fn needed_for(self, option: impl Into<String>) -> Self {
        Self { needed_for: Some(option.into()), ..self }
    }

    /// With a remark, and what to do about it.
    pub(super) fn remarked(self, remark: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { remark: Some(remark.into()), remedy: Some(remedy.into()), ..self }
    }
}
