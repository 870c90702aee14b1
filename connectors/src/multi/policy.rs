//! Which objects a part takes.

use std::fmt;
use std::str::FromStr;

use regex_lite::Regex;
use serde::{Deserialize, Serialize};

use crate::ConnectorSpec;

/// One of several connectors, and what it is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Part {
    /// The connector; not one that is made of parts itself.
    pub spec: ConnectorSpec,
    /// What it takes.
    pub policy: Policy,
}

/// What a part takes. The default takes everything, everywhere.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Policy {
    /// Of the parts that take an object, the one of the highest priority gets it; of equal ones the first.
    pub priority: i64,
    /// The hosts on which the part is used to store; all where absent.
    pub host: Option<HostPattern>,
    /// Size of the smallest object, bytes.
    pub min_size: u64,
    /// Size of the largest object, bytes; any where absent.
    pub max_size: Option<u64>,
    /// What the part offers, for objects that ask for it.
    pub tags: Vec<String>,
}

impl Policy {
    /// Whether it takes objects of `size` bytes.
    pub fn takes_size(&self, size: u64) -> bool {
        size >= self.min_size && self.max_size.is_none_or(|max| size <= max)
    }

    /// Whether it offers all that is asked for.
    pub fn has_tags(&self, asked: &[String]) -> bool {
        asked.iter().all(|tag| self.tags.contains(tag))
    }

    /// Whether it stores on the host of this name.
    pub(super) fn is_for_host(&self, name: &str) -> bool {
        self.host.as_ref().is_none_or(|pattern| pattern.matches(name))
    }
}

/// As the command line takes it, with a comma ahead of each condition.
impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.min_size > 0 {
            write!(f, ",min={}", self.min_size)?;
        }
        if let Some(max) = self.max_size {
            write!(f, ",max={max}")?;
        }
        if self.priority != 0 {
            write!(f, ",priority={}", self.priority)?;
        }
        if let Some(HostPattern(pattern)) = &self.host {
            write!(f, ",host={pattern}")?;
        }
        self.tags.iter().try_for_each(|tag| write!(f, ",tag={tag}"))
    }
}

/// A regular expression that a host's whole name must match.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct HostPattern(String);

/// Why a text is no [`HostPattern`].
#[derive(Debug, thiserror::Error)]
#[error("not a regular expression: {0}")]
pub struct BadPattern(#[from] regex_lite::Error);

impl FromStr for HostPattern {
    type Err = BadPattern;

    fn from_str(text: &str) -> Result<Self, BadPattern> {
        whole(text)?;
        Ok(Self(text.into()))
    }
}

impl HostPattern {
    /// One that is no regular expression, received from elsewhere, matches nothing.
    fn matches(&self, name: &str) -> bool {
        whole(&self.0).is_ok_and(|pattern| pattern.is_match(name))
    }
}

fn whole(pattern: &str) -> Result<Regex, regex_lite::Error> {
    // Alone first: `)(` is a pattern only between the parentheses.
    Regex::new(pattern)?;
    Regex::new(&format!("^(?:{pattern})$"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(min_size: u64, max_size: Option<u64>) -> Policy {
        Policy { min_size, max_size, ..Policy::default() }
    }

    #[test]
    fn both_bounds_are_within() {
        let policy = policy(10, Some(20));
        assert_eq!([9, 10, 20, 21].map(|size| policy.takes_size(size)), [false, true, true, false]);
        assert!(Policy::default().takes_size(0) && Policy::default().takes_size(u64::MAX));
    }

    #[test]
    fn all_tags_that_are_asked_for_must_be_there() {
        let policy = Policy { tags: vec!["fast".into(), "site-a".into()], ..Policy::default() };
        let asked = |tags: &[&str]| tags.iter().map(|tag| (*tag).to_owned()).collect::<Vec<_>>();
        assert!(policy.has_tags(&[]) && policy.has_tags(&asked(&["site-a"])));
        assert!(!policy.has_tags(&asked(&["site-a", "large"])));
    }

    #[test]
    fn a_pattern_is_for_the_whole_name() {
        let on = |pattern: &str, name| {
            Policy { host: Some(pattern.parse().unwrap()), ..Policy::default() }.is_for_host(name)
        };
        assert!(on("login.*", "login7") && on("a|b", "b"));
        assert!(!on("login", "login7") && !on("a|b", "ab"));
        for wrong in ["(", ")(", "a{2,1}"] {
            wrong.parse::<HostPattern>().unwrap_err();
        }
    }

    #[test]
    fn it_reads_as_it_is_written() {
        let policy = Policy {
            priority: -2,
            host: Some("node[0-9]+".parse().unwrap()),
            tags: vec!["a".into()],
            ..policy(1, Some(5))
        };
        assert_eq!(policy.to_string(), ",min=1,max=5,priority=-2,host=node[0-9]+,tag=a");
    }
}
