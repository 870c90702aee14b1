//! The vocabulary of SciStream's control protocol: the roles and the addresses that its three parties (user client S2UC, control
//! servers S2CS, data servers S2DS) exchange.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

/// Which side of the path a gateway serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Inbound proxy, at the data producer's side; `PROD` on the wire.
    Producer,
    /// Outbound proxy, at the data consumer's side; `CONS` on the wire.
    Consumer,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Producer => "PROD",
            Self::Consumer => "CONS",
        })
    }
}

impl FromStr for Role {
    type Err = VocabularyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "PROD" => Ok(Self::Producer),
            "CONS" => Ok(Self::Consumer),
            other => Err(VocabularyError::Role(other.into())),
        }
    }
}

/// Where an on-demand proxy accepts connections: `ip:port` on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Listener(pub SocketAddr);

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Listener {
    type Err = VocabularyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self).map_err(|_| VocabularyError::Listener(text.into()))
    }
}

/// A word that the control protocol does not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VocabularyError {
    /// Neither of the two roles.
    #[error("no such role: {0:?}; there are PROD and CONS")]
    Role(String),
    /// Not an address of a listener.
    #[error("not a listener: {0:?}; expected ip:port")]
    Listener(String),
    /// Not where connections could go.
    #[error("not a target: {0:?}; expected host:port")]
    Target(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_survive_the_wire() {
        for role in [Role::Producer, Role::Consumer] {
            assert_eq!(role.to_string().parse(), Ok(role));
        }
        for text in ["10.0.0.1:5100", "[::1]:5200"] {
            let listener: Listener = text.parse().unwrap();
            assert_eq!(listener.to_string(), text);
        }
    }

    #[test]
    fn other_words_are_named() {
        assert_eq!("prod".parse::<Role>(), Err(VocabularyError::Role("prod".into())));
        assert!("localhost".parse::<Listener>().unwrap_err().to_string().contains("localhost"));
    }
}
