//! What the commands of SciStream's gateways, `psbench s2cs` and `psbench s2uc`, have in common.

mod interrupt;

use std::str::FromStr;

use scistream::dataserver::{DataServerError, DataServerType};

pub(super) use self::interrupt::interrupts;

/// Options have the names that SciStream's own programs have for them, with underscores, too.
pub(super) fn underscores_too(argument: clap::Arg) -> clap::Arg {
    match argument.get_long().map(|name| name.replace('-', "_")) {
        Some(name) if name.contains('_') => argument.alias(name),
        _ => argument,
    }
}

/// A type of data server, also as SciStream's own programs name them: `HaproxySubprocess`, `Stunnel`.
pub(super) fn data_server_type(text: &str) -> Result<DataServerType, DataServerError> {
    let lower = text.to_ascii_lowercase();
    lower.strip_suffix("subprocess").unwrap_or(&lower).parse().map_err(|_| DataServerError::Unknown(text.into()))
}

/// Several values between commas, at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct List<T>(pub(super) Vec<T>);

impl<T: FromStr> FromStr for List<T> {
    type Err = T::Err;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.split(',').map(|part| part.trim().parse()).collect::<Result<_, _>>().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_go_by_the_references_names_too() {
        for (name, kind) in [
            ("copy", DataServerType::Copy),
            ("HaproxySubprocess", DataServerType::Haproxy),
            ("Stunnel", DataServerType::Stunnel),
            ("StunnelSubprocess", DataServerType::Stunnel),
            ("Nginx", DataServerType::Nginx),
        ] {
            assert_eq!(data_server_type(name).unwrap(), kind, "{name}");
        }
        let error = data_server_type("Squid").unwrap_err().to_string();
        assert!(error.contains("\"Squid\""), "{error}");
    }

    #[test]
    fn lists_are_between_commas() {
        assert_eq!("1, 2,3".parse::<List<u16>>().unwrap().0, [1, 2, 3]);
        for text in ["", "1,", "a"] {
            text.parse::<List<u16>>().unwrap_err();
        }
    }
}
