//! What the commands of SciStream's gateways, `psbench s2cs` and `psbench s2uc`, have in common.

mod interrupt;

use std::str::FromStr;

pub(super) use self::interrupt::interrupts;

/// Options have the names that SciStream's own programs have for them, with underscores, too.
pub(super) fn underscores_too(argument: clap::Arg) -> clap::Arg {
    match argument.get_long().map(|name| name.replace('-', "_")) {
        Some(name) if name.contains('_') => argument.alias(name),
        _ => argument,
    }
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
    fn lists_are_between_commas() {
        assert_eq!("1, 2,3".parse::<List<u16>>().unwrap().0, [1, 2, 3]);
        for text in ["", "1,", "a"] {
            text.parse::<List<u16>>().unwrap_err();
        }
    }
}
