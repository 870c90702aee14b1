//! What is printed, as workflow scripts parse it.

use std::fmt::Display;
use std::io;

use scistream::Role;
use scistream::dataserver::{DataServerType, Target};
use serde::Serialize;
use uuid::Uuid;

use crate::cli::print;

/// In place of a token, where there is none: the line keeps its four words.
const NO_TOKEN: &str = "INVALID_TOKEN";

/// What the usual user client prints once the control server has heard hello. Scripts wait for it.
pub(super) const GREETED: &str = "Hello message sent successfully";

/// The two lines that the usual user client begins with. Scripts take the second one apart by its words, and hand the third on to
/// programs that say hello.
pub(super) fn announce(uid: Uuid, s2cs: &str, token: Option<&str>, role: Role) -> io::Result<()> {
    print(format_args!("uid; s2cs; access_token; role\n{uid} {s2cs} {} {role}", token.unwrap_or(NO_TOKEN)))
}

/// `Listeners: ['10.0.0.1:5100', '10.0.0.1:5101']`.
pub(super) fn print_listeners(listeners: &[Target]) -> io::Result<()> {
    print(format_args!("Listeners: {}", python_list(listeners)))
}

fn python_list(items: &[impl Display]) -> String {
    let quoted: Vec<_> = items.iter().map(|item| format!("'{item}'")).collect();
    format!("[{}]", quoted.join(", "))
}

pub(super) fn print_json(value: &impl Serialize) -> io::Result<()> {
    print(serde_json::to_string(value)?)
}

/// Half of a path, for machines.
#[derive(Serialize)]
pub(super) struct Half<'a> {
    pub(super) uid: Uuid,
    pub(super) s2cs: &'a str,
    pub(super) listeners: Vec<String>,
    pub(super) prod_listeners: &'a [String],
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
}

pub(super) fn texts(targets: &[Target]) -> Vec<String> {
    targets.iter().map(ToString::to_string).collect()
}

pub(super) fn name(kind: Option<DataServerType>) -> Option<String> {
    kind.map(|kind| kind.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_are_a_list_of_pythons() {
        assert_eq!(python_list(&["10.0.0.1:5100", "[::1]:5101"]), "['10.0.0.1:5100', '[::1]:5101']");
        assert_eq!(python_list(&[] as &[Target]), "[]");
    }
}
