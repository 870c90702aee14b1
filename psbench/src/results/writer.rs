//! Writes results so that a reader never sees half of them.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use super::{Results, csv};
use crate::scratch;

/// Why results could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}: {source}", path.display())]
pub struct ResultsError {
    /// What was tried.
    action: &'static str,
    /// The file or directory.
    path: PathBuf,
    /// The system's reason.
    source: io::Error,
}

impl ResultsError {
    fn new(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self { action, path: path.to_owned(), source }
    }
}

/// All results, in each run's directory.
pub const RESULTS_JSON: &str = "results.json";

/// The chart of paths beside each other, in the directories of runs that compare them.
pub const CHART: &str = "paths.svg";

/// The directory of one run, and the results in it.
#[derive(Debug)]
pub struct ResultsWriter {
    dir: PathBuf,
    csv: PathBuf,
    json: PathBuf,
}

impl ResultsWriter {
    /// Makes `<root>/<benchmark>-YYYY-mm-dd-HH-MM-SS/` in local time, with `-2` and so on behind it where that exists.
    /// `csv_file` is relative to it.
    ///
    /// # Errors
    /// The directory can't be made.
    pub fn create(root: &Path, benchmark: &str, csv_file: &Path) -> Result<Self, ResultsError> {
        fs::create_dir_all(root).map_err(ResultsError::new("make the directory", root))?;
        let name = format!("{benchmark}-{}", jiff::Zoned::now().strftime("%Y-%m-%d-%H-%M-%S"));
        let mut dir = root.join(&name);
        let mut further = 2;
        while let Err(error) = fs::create_dir(&dir) {
            if error.kind() != io::ErrorKind::AlreadyExists {
                return Err(ResultsError::new("make the directory", &dir)(error));
            }
            dir = root.join(format!("{name}-{further}"));
            further += 1;
        }
        Ok(Self { csv: dir.join(csv_file), json: dir.join(RESULTS_JSON), dir })
    }

    /// The run's directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Opens a new file; `name` is relative to the run's directory.
    ///
    /// # Errors
    /// The file can't be made.
    pub fn create_file(&self, name: &Path) -> Result<File, ResultsError> {
        let path = self.dir.join(name);
        File::create(&path).map_err(ResultsError::new("write", &path))
    }

    /// Writes all results anew. Each file is replaced as a whole, also where the other one can't be.
    ///
    /// # Errors
    /// The first file that can't be written, for example because the disk is full. What was written before stays as it was.
    pub fn write(&self, results: &Results) -> Result<(), ResultsError> {
        let csv = replace(&self.csv, |file| Ok(csv::write(&results.trials, file)?));
        let json = replace(&self.json, |mut file| {
            serde_json::to_writer_pretty(&mut file, results)?;
            file.write_all(b"\n")
        });
        csv.and(json)
    }

    /// Writes the chart, likewise.
    ///
    /// # Errors
    /// It can't be written.
    pub fn write_chart(&self, svg: &str) -> Result<(), ResultsError> {
        replace(&self.dir.join(CHART), |file| file.write_all(svg.as_bytes()))
    }
}

/// Replaces the file at `path` by what `write` writes, or leaves it as it was.
fn replace(path: &Path, write: impl FnOnce(&mut BufWriter<&File>) -> io::Result<()>) -> Result<(), ResultsError> {
    let replaced = || {
        let new = scratch::unfinished(path)?;
        let mut buffered = BufWriter::new(new.as_file());
        write(&mut buffered)?;
        buffered.flush()?;
        drop(buffered);
        new.as_file().sync_all()?;
        new.persist(path)?;
        Ok(())
    };
    replaced().map_err(ResultsError::new("write", path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Method;
    use crate::results::sample;

    #[test]
    fn each_run_has_a_directory_of_its_own() {
        let root = tempfile::tempdir().unwrap();
        let runs: Vec<_> = (0..3)
            .map(|_| ResultsWriter::create(&root.path().join("runs"), "sweep", Path::new("results.csv")).unwrap())
            .collect();
        assert!(runs[0].dir() != runs[1].dir() && runs[1].dir() != runs[2].dir());
    }

    #[test]
    fn results_read_back_and_leave_nothing_beside_them() {
        let root = tempfile::tempdir().unwrap();
        let writer = ResultsWriter::create(root.path(), "sweep", Path::new("table.csv")).unwrap();
        let mut results = sample::empty();
        for method in [Method::Default, Method::Proxy] {
            results.push(sample::trial(method, 1_000_000, 100.0));
            writer.write(&results).unwrap();
        }
        let text = fs::read_to_string(writer.dir().join("results.json")).unwrap();
        let read: Results = serde_json::from_str(&text).unwrap();
        assert_eq!(serde_json::to_value(&read).unwrap(), serde_json::to_value(&results).unwrap());
        assert_eq!(fs::read_to_string(writer.dir().join("table.csv")).unwrap().lines().count(), 3);
        assert_eq!(fs::read_dir(writer.dir()).unwrap().count(), 2);
    }

    #[test]
    fn a_table_that_fails_leaves_the_rest() {
        let root = tempfile::tempdir().unwrap();
        let writer = ResultsWriter::create(root.path(), "sweep", Path::new("table.csv")).unwrap();
        fs::create_dir(writer.dir().join("table.csv")).unwrap();
        let error = writer.write(&sample::empty()).unwrap_err().to_string();
        assert!(error.contains("table.csv"), "{error}");
        assert!(writer.dir().join("results.json").is_file());
    }

    #[test]
    fn the_path_at_fault_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = ResultsWriter::create(file.path(), "sweep", Path::new("results.csv")).unwrap_err().to_string();
        assert!(error.contains(&file.path().display().to_string()), "{error}");
        let full = replace(Path::new("/dev/full/x"), |_| Ok(())).unwrap_err().to_string();
        assert!(full.starts_with("cannot write /dev/full/x: "), "{full}");
    }
}
