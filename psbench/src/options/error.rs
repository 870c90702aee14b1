//! What can be wrong with options.

use std::io;
use std::path::PathBuf;

use scistream::tls::TlsError;

/// Options that make no sweep. Each is one line that says what to write instead.
#[derive(Debug, thiserror::Error)]
pub enum OptionError {
    /// A name that chooses nothing here.
    #[error("{option} {name}: {reason}; there are: {available}{instead}")]
    NoSuchName {
        /// The option.
        option: &'static str,
        /// What was written.
        name: String,
        /// Whether it is a name at all.
        reason: &'static str,
        /// What could be written.
        available: String,
        /// What comes nearest, beginning with a separator, or empty.
        instead: String,
    },
    /// A value that is out of its range, or does not go with another.
    #[error("{option} {value}: {problem}")]
    Invalid {
        /// The option.
        option: &'static str,
        /// What was written.
        value: String,
        /// What is wrong with it and what to write instead.
        problem: String,
    },
    /// An option that another one needs.
    #[error("{needed_by} needs {option}")]
    Missing {
        /// The missing option.
        option: &'static str,
        /// The option that needs it.
        needed_by: &'static str,
    },
    /// An option of another command.
    #[error("--{option} is no option of {command}; see {command} --help")]
    Elsewhere {
        /// The option, without its dashes.
        option: String,
        /// The command that was given.
        command: &'static str,
    },
    /// What a path among those to compare lacks.
    #[error("--paths {path}: {source} (or leave {path} out)")]
    OfPath {
        /// The path.
        path: String,
        /// What is wrong with it.
        source: Box<Self>,
    },
    /// Several trials where there is one stream.
    #[error("{wanted_by} is one trial, not {more}; give {once}")]
    OneTrial {
        /// What makes it one.
        wanted_by: &'static str,
        /// What to give once.
        once: &'static str,
        /// The trials of the plan.
        more: usize,
    },
    /// A file that an option names.
    #[error("{option} {}: {source}", path.display())]
    File {
        /// The option.
        option: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A certificate or a key.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Options that results could not record.
    #[error("the options can't be written as text: {0}")]
    Unrecordable(String),
    /// What stands in a recipe.
    #[error("--recipe {}: {problem}", path.display())]
    Recipe {
        /// The recipe.
        path: PathBuf,
        /// The key at fault and what is wrong with it.
        problem: String,
    },
}

impl OptionError {
    /// A value that can't be used.
    pub(crate) fn invalid(option: &'static str, value: &impl ToString, problem: impl Into<String>) -> Self {
        Self::Invalid { option, value: value.to_string(), problem: problem.into() }
    }
}
