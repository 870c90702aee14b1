//! At which site this process is.

use std::env;
use std::fmt;
use std::sync::OnceLock;

use super::{Site, Ways};

/// The environment's variable with the name of the site.
pub const SITE_VARIABLE: &str = "PSBENCH_SITE";

static SITE: OnceLock<String> = OnceLock::new();

/// This process is at the site of this name, whatever the environment says. What was said first counts.
pub fn be_at(site: String) {
    let _ = SITE.set(site);
}

/// The site of this process; empty: none in particular.
pub(super) fn here() -> &'static str {
    SITE.get_or_init(|| env::var(SITE_VARIABLE).unwrap_or_default())
}

impl Ways {
    /// The way of workers at a site. Where no site has a name all workers have the same.
    ///
    /// # Errors
    /// There is none. What to do.
    pub(super) fn from(&self, site: &str) -> Result<&Site, String> {
        if let Some(found) = self.sites.iter().find(|known| known.name == site) {
            return Ok(found);
        }
        match &self.sites[..] {
            [only] if only.name.is_empty() => Ok(only),
            sites => {
                let known: Vec<_> =
                    sites.iter().map(|site| site.name.as_str()).filter(|name| !name.is_empty()).collect();
                let here = if site.is_empty() {
                    "this worker is at no site".to_owned()
                } else {
                    format!("there is no gateway for this worker's site {site:?}")
                };
                Err(format!(
                    "{here}; start it with {SITE_VARIABLE} in its environment, or psbench worker --site, as one of: {}",
                    known.join(", ")
                ))
            }
        }
    }
}

/// A site's name ahead of its address, or nothing.
pub(super) struct Prefix<'a>(pub(super) &'a str);

impl fmt::Display for Prefix<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, "{}=", self.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Secret;

    fn ways(names: &[&str]) -> Ways {
        let site = |name: &&str| Site::new(name, &["10.0.0.1:5100".parse().unwrap()]);
        Ways { sites: names.iter().map(site).collect(), secret: Secret::default() }
    }

    #[test]
    fn a_worker_goes_the_way_of_its_site() {
        for (names, site, way) in [
            (&[""][..], "", ""),
            (&[""], "anl", ""),
            (&["", "anl"], "", ""),
            (&["", "anl"], "anl", "anl"),
            (&["ornl", "anl"], "anl", "anl"),
        ] {
            assert_eq!(ways(names).from(site).unwrap().name, way, "{names:?} {site:?}");
        }
    }

    #[test]
    fn the_sites_that_there_are_are_named() {
        for (names, site, problem) in [
            (&["anl"][..], "", "at no site; start it with PSBENCH_SITE"),
            (&["ornl", "anl"], "nersc", "no gateway for this worker's site \"nersc\""),
            (&["", "anl"], "nersc", "as one of: anl"),
        ] {
            let error = ways(names).from(site).unwrap_err();
            assert!(error.contains(problem) && error.contains("anl"), "{error}");
        }
    }

    #[test]
    fn listeners_keep_their_order() {
        let listeners = ["h:1", "h:2", "[::1]:3", "h:4"].map(|text| text.parse().unwrap());
        let site = Site::new("anl", &listeners);
        assert_eq!(site.exits.len(), 3);
        assert_eq!(site.to_string(), "anl=h:1 h:2 [::1]:3 h:4");
    }
}
