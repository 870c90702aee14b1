//! Where Kafka comes from: programs on the PATH, and the jars that Maven gets.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::AtomicBool;

use rustix::fs::{Access, access};

use super::process;
use super::{ServicesError, last_words};
use crate::scratch::Scratch;

/// What Maven gets.
const POM: &str = include_str!("kafka-pom.xml");

/// That of the POM.
const KAFKA_VERSION: &str = "4.1.1";

/// What a broker that logs is started from, by the beginnings of their names.
const NEEDED_JARS: [(&str, &str); 2] = [
    ("kafka_2.13-", "its libs have no kafka_2.13-*.jar"),
    ("log4j-slf4j-impl-", "its libs have no log4j-slf4j-impl-*.jar, as those of Kafka 4 have"),
];

/// Gets Kafka.
pub(crate) const MAVEN: Needed = Needed { program: "mvn", packages: "maven default-jre-headless" };

/// A program of the system that something here is started from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Needed {
    /// The program.
    pub(crate) program: &'static str,
    /// Debian's packages, which bring it.
    pub(crate) packages: &'static str,
}

impl Needed {
    /// Whether the shell would find it.
    pub(super) fn check(self) -> Result<(), ServicesError> {
        let Self { program, packages } = self;
        let found = find_program(program, &env::var_os("PATH").unwrap_or_default());
        found.map(|_| ()).ok_or(ServicesError::NoProgram { program, packages })
    }
}

/// Where a shell with this `PATH` would find a program.
pub(crate) fn find_program(program: &str, path: &OsStr) -> Option<PathBuf> {
    let candidates = env::split_paths(path).map(|directory| directory.join(program));
    candidates.filter(|file| file.is_file()).find(|file| access(file, Access::EXEC_OK).is_ok())
}

/// What became of a fetch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// Where Kafka is: its jars are in `libs` of it.
    pub home: PathBuf,
    /// Whether it was not there before.
    pub new: bool,
}

/// Gets Kafka by Maven into the cache, where it is not there yet; whole or not at all.
///
/// # Errors
/// There is no Maven, it can't get the jars, or they can't be kept.
pub fn fetch_kafka(interrupted: &AtomicBool) -> Result<Fetched, ServicesError> {
    let home = cached_kafka()?;
    if check_home(&home).is_ok() {
        return Ok(Fetched { home, new: false });
    }
    MAVEN.check()?;
    let cache = home.parent().unwrap_or(Path::new("/"));
    let unfinished = fs::create_dir_all(cache)
        .and_then(|()| Scratch::new_in(cache, ".kafka-"))
        .map_err(ServicesError::file(cache))?;
    let (pom, log) = (unfinished.path().join("pom.xml"), unfinished.path().join("log.txt"));
    fs::write(&pom, POM).map_err(ServicesError::file(&pom))?;
    let mut maven = Command::new("mvn");
    maven
        .args(["--quiet", "--batch-mode", "dependency:copy-dependencies", "-DincludeScope=runtime"])
        .arg(format!("-DoutputDirectory={}", unfinished.path().join("libs").display()))
        .current_dir(unfinished.path());
    let ended = process::run(&mut maven, &log, interrupted).map_err(ServicesError::file(&log))?;
    let Some(status) = ended else { return Err(ServicesError::Interrupted) };
    if !status.success() {
        let said = fs::read_to_string(&log).unwrap_or_default();
        // Maven's first line of errors is the one that tells; hints follow.
        let reason = said.lines().find_map(|line| line.split_once("[ERROR] ")).map(|(_, reason)| reason);
        let reason = reason.or_else(|| last_words(&said)).unwrap_or("it did not say why");
        return Err(ServicesError::Fetch(format!("{status}: {}", reason.trim_end())));
    }
    check_home(unfinished.path())?;
    fs::remove_file(&log).map_err(ServicesError::file(&log))?;
    match unfinished.keep_as(&home) {
        Ok(()) => Ok(Fetched { home, new: true }),
        // Another fetch was quicker.
        Err(_) if check_home(&home).is_ok() => Ok(Fetched { home, new: false }),
        Err(error) => Err(ServicesError::file(&home)(error)),
    }
}

/// Where a fetched Kafka is, whether it is there or not.
pub(super) fn cached_kafka() -> Result<PathBuf, ServicesError> {
    Ok(cache_directory()?.join(format!("kafka-{KAFKA_VERSION}")))
}

/// Where psbench keeps what it has made or fetched once: `$PSBENCH_CACHE`, or below `$XDG_CACHE_HOME` or `~/.cache`.
///
/// # Errors
/// None of these is set.
pub fn cache_directory() -> Result<PathBuf, ServicesError> {
    let directory = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = directory("PSBENCH_CACHE")
        .or_else(|| directory("XDG_CACHE_HOME").map(|cache| cache.join("psbench")))
        .or_else(|| directory("HOME").map(|home| home.join(".cache/psbench")))
        .ok_or(ServicesError::NoCache)?;
    std::path::absolute(&cache).map_err(ServicesError::file(&cache))
}

/// Whether a broker can be started from there, and of which version it would be.
pub(super) fn check_home(home: &Path) -> Result<String, ServicesError> {
    let missing = |problem| ServicesError::NoKafka { path: home.to_owned(), problem };
    let libs = match fs::read_dir(home.join("libs")) {
        Ok(libs) => libs,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(missing("it has no libs")),
        Err(error) => return Err(ServicesError::file(&home.join("libs"))(error)),
    };
    let names: Vec<_> = libs.flatten().map(|jar| jar.file_name().to_string_lossy().into_owned()).collect();
    let version = |beginning: &str| names.iter().find_map(|name| name.strip_prefix(beginning)?.strip_suffix(".jar"));
    let [kafka, logging] = NEEDED_JARS;
    let found = version(kafka.0).ok_or_else(|| missing(kafka.1))?;
    version(logging.0).ok_or_else(|| missing(logging.1))?;
    Ok(found.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_that_of_the_pom() {
        assert!(POM.contains(&format!("<kafka.version>{KAFKA_VERSION}</kafka.version>")));
    }

    #[test]
    fn a_home_lacks_what_it_lacks() {
        let home = tempfile::tempdir().unwrap();
        let lacks = |what: &str| {
            let error = check_home(home.path()).unwrap_err().to_string();
            assert!(error.contains(what) && error.contains("psbench services fetch kafka"), "{error}");
        };
        lacks("it has no libs");
        let libs = home.path().join("libs");
        fs::create_dir(&libs).unwrap();
        lacks("kafka_2.13-*.jar");
        fs::write(libs.join("kafka_2.13-4.0.0.jar"), "").unwrap();
        lacks("log4j-slf4j-impl-*.jar");
        fs::write(libs.join("log4j-slf4j-impl-2.24.3.jar"), "").unwrap();
        assert_eq!(check_home(home.path()).unwrap(), "4.0.0");
    }
}
