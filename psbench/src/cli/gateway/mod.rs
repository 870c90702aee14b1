//! What the commands of SciStream's gateways, `psbench s2cs` and `psbench s2uc`, have in common.

use std::str::FromStr;

/// Options have the names that SciStream's own programs have for them, with underscores, too.
pub(super) fn underscores_too(argument: clap::Arg) -> clap::Arg {
    let others = argument.get_all_aliases().unwrap_or_default();
    let names: Vec<_> = argument.get_long().into_iter().chain(others).map(|name| name.replace('-', "_")).collect();
    argument.aliases(names.into_iter().filter(|name| name.contains('_')))
}

/// Yes or no, as people write it for SciStream's own programs: `--ssl=False`.
pub(super) fn yes_or_no(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Ok(true),
        "false" | "no" | "off" | "0" => Ok(false),
        _ => Err("expected True or False".to_owned()),
    }
}

/// Several values between commas, at least one. An empty one, as a comma at the end makes it, is passed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct List<T>(pub(super) Vec<T>);

impl<T: FromStr> FromStr for List<T> {
    type Err = T::Err;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::parse);
        match parts.collect::<Result<Vec<_>, _>>()? {
            // What the type says of nothing.
            none if none.is_empty() => "".parse().map(|value| Self(vec![value])),
            values => Ok(Self(values)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_between_commas() {
        assert_eq!("1, 2,3".parse::<List<u16>>().unwrap().0, [1, 2, 3]);
        assert_eq!(",1,, 2,".parse::<List<u16>>().unwrap().0, [1, 2]);
        for text in ["", ",", " , ", "a", "1,a"] {
            text.parse::<List<u16>>().unwrap_err();
        }
    }
}
