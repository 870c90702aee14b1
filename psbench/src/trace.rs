//! Each item's stages as a table in a Parquet file, one file for each trial.
//!
//! A thread of its own writes while the trial runs, so that neither memory grows with the items nor the dispatcher waits for a disk. The
//! file appears under its name when the trial has ended.

use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender, TrySendError};
use std::thread::{self, JoinHandle};

use arrow_array::builder::{StringBuilder, TimestampNanosecondBuilder, UInt32Builder, UInt64Builder};
use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef, TimeUnit};
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;

use psbench_executors::WorkerId;

use crate::clock::{Nanos, unix_nanos};
use crate::item::{ItemHead, ItemOutcome};
use crate::plan::TrialPlan;
use crate::recorder::{Dispatched, Unfinished};

/// Items that are handed to the writing thread together.
const BATCH: usize = 4096;
/// Batches that may wait for a slow disk; beyond them items are dropped from the trace, and counted: whoever records must not wait.
const WAITING: usize = 256;
/// Items of a row group: what a reader takes into memory at a time.
const ROW_GROUP: usize = 256 << 10;

/// What is known of one item at its end.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TracedItem {
    /// Counted from 0 over the items of all generators.
    pub sequence: u64,
    /// Number of the worker that had it; absent when none did.
    pub worker: Option<u32>,
    /// Payload bytes that reached the worker.
    pub bytes: Option<u64>,
    /// When each stage happened, in the order of [`STAGES`].
    pub stages: [Option<Nanos>; STAGES.len()],
    /// Why it failed; absent when it finished.
    pub failure: Option<String>,
}

impl TracedItem {
    /// Of an item whose task ended.
    pub fn ended(worker: WorkerId, head: &ItemHead, dispatched: &Dispatched, outcome: &ItemOutcome) -> Self {
        let Dispatched { received, submitted, recorded } = *dispatched;
        let ItemOutcome { started, resolved, finished, evicted, bytes, failure } = outcome;
        Self {
            sequence: head.sequence,
            worker: Some(worker.0),
            bytes: Some(*bytes),
            stages: [
                head.scheduled,
                head.created,
                head.stored,
                head.published,
                Some(received),
                Some(submitted),
                Some(*started),
                *resolved,
                Some(*finished),
                Some(recorded),
                *evicted,
            ],
            failure: failure.as_ref().map(|failure| failure.reason.clone()),
        }
    }

    /// Of an item whose task never ran to an outcome of its own.
    pub fn unfinished(head: &ItemHead, known: &Unfinished, reason: &str) -> Self {
        let Unfinished { received, submitted, worker, recorded } = *known;
        Self {
            sequence: head.sequence,
            worker: worker.map(|worker| worker.0),
            bytes: None,
            stages: [
                head.scheduled,
                head.created,
                head.stored,
                head.published,
                Some(received),
                submitted,
                None,
                None,
                None,
                Some(recorded),
                None,
            ],
            failure: Some(reason.to_owned()),
        }
    }
}

/// The stages of an item, in their order.
pub const STAGES: [&str; 11] = [
    "scheduled",
    "created",
    "stored",
    "published",
    "received",
    "submitted",
    "started",
    "resolved",
    "finished",
    "recorded",
    "evicted",
];

/// A trace can't be kept.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// The system refused the file.
    #[error("the trace {} can't be kept: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The disk was too slow for all items.
    #[error("the trace {} lacks {items} items: its disk was too slow; use a faster one with --run-dir", path.display())]
    Dropped {
        /// The file, which has the others.
        path: PathBuf,
        /// How many it lacks.
        items: u64,
    },
    /// The table can't be written.
    #[error("the trace {} can't be kept: {source}", path.display())]
    Table {
        /// The file.
        path: PathBuf,
        /// The writer's reason.
        source: ParquetError,
    },
}

/// Takes items as they end. Dropping it ends the trace.
#[derive(Debug)]
pub struct Trace {
    batch: Vec<TracedItem>,
    writer: SyncSender<Vec<TracedItem>>,
    /// Items for which the disk was too slow.
    dropped: Arc<AtomicU64>,
}

/// A trace on its way to its file.
#[derive(Debug)]
pub struct TraceFile {
    writing: JoinHandle<Result<PathBuf, TraceError>>,
    dropped: Arc<AtomicU64>,
}

/// Starts the trace of a trial in `dir`.
///
/// # Errors
///
/// The file or its thread can't be made.
pub fn start(dir: &Path, trial: &TrialPlan) -> Result<(Trace, TraceFile), TraceError> {
    let path = dir.join(format!("trace-{:04}.parquet", trial.index));
    let refused = |source| TraceError::File { path: path.clone(), source };
    // As other files of the run: what the user's mask leaves.
    let mode = Permissions::from_mode(0o666);
    let file = tempfile::Builder::new().permissions(mode).tempfile_in(dir).map_err(refused)?;
    let table = Table::new(trial, file.reopen().map_err(refused)?, path.clone())?;
    let (writer, batches) = mpsc::sync_channel(WAITING);
    let thread = thread::Builder::new().name("psbench-trace".into()).spawn({
        let path = path.clone();
        move || {
            table.write(&batches)?;
            match file.persist(&path) {
                Ok(_) => Ok(path),
                Err(error) => Err(TraceError::File { path, source: error.error }),
            }
        }
    });
    let dropped = Arc::<AtomicU64>::default();
    let file = TraceFile { writing: thread.map_err(refused)?, dropped: Arc::clone(&dropped) };
    Ok((Trace { batch: Vec::with_capacity(BATCH), writer, dropped }, file))
}

impl Trace {
    /// Notes an item that has ended.
    pub fn push(&mut self, item: TracedItem) {
        self.batch.push(item);
        if self.batch.len() >= BATCH {
            self.hand_over(Vec::with_capacity(BATCH));
        }
    }

    fn hand_over(&mut self, next: Vec<TracedItem>) {
        let batch = std::mem::replace(&mut self.batch, next);
        // Where the thread has failed, it tells so at the end.
        if let Err(TrySendError::Full(batch)) = self.writer.try_send(batch) {
            self.dropped.fetch_add(batch.len() as u64, Ordering::Relaxed);
        }
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        self.hand_over(Vec::new());
    }
}

impl TraceFile {
    /// Waits until all is written; the [`Trace`] must be gone by then. Returns the file.
    ///
    /// # Errors
    ///
    /// It could not be written, or not in full.
    pub fn finish(self) -> Result<PathBuf, TraceError> {
        let path = self.writing.join().unwrap_or_else(|_| {
            let source = io::Error::other("its thread panicked");
            Err(TraceError::File { path: PathBuf::new(), source })
        })?;
        match self.dropped.load(Ordering::Relaxed) {
            0 => Ok(path),
            items => Err(TraceError::Dropped { path, items }),
        }
    }
}

struct Table {
    path: PathBuf,
    trial: TrialPlan,
    schema: SchemaRef,
    writer: ArrowWriter<File>,
}

impl Table {
    fn new(trial: &TrialPlan, file: File, path: PathBuf) -> Result<Self, TraceError> {
        let schema = schema();
        let properties = WriterProperties::builder()
            .set_compression(Compression::SNAPPY)
            .set_max_row_group_row_count(Some(ROW_GROUP))
            .build();
        match ArrowWriter::try_new(file, Arc::clone(&schema), Some(properties)) {
            Ok(writer) => Ok(Self { path, trial: trial.clone(), schema, writer }),
            Err(source) => Err(TraceError::Table { path, source }),
        }
    }

    fn write(mut self, batches: &Receiver<Vec<TracedItem>>) -> Result<(), TraceError> {
        for items in batches {
            self.append(&items).map_err(|source| TraceError::Table { path: self.path.clone(), source })?;
        }
        self.writer.close().map(drop).map_err(|source| TraceError::Table { path: self.path, source })
    }

    fn append(&mut self, items: &[TracedItem]) -> Result<(), ParquetError> {
        let batch = self.batch(items).map_err(ParquetError::from)?;
        self.writer.write(&batch)
    }

    fn batch(&self, items: &[TracedItem]) -> Result<RecordBatch, ArrowError> {
        let number = |value: &dyn Fn(&TracedItem) -> Option<u32>| {
            let mut column = UInt32Builder::with_capacity(items.len());
            items.iter().for_each(|item| column.append_option(value(item)));
            Arc::new(column.finish()) as ArrayRef
        };
        let large = |value: &dyn Fn(&TracedItem) -> Option<u64>| {
            let mut column = UInt64Builder::with_capacity(items.len());
            items.iter().for_each(|item| column.append_option(value(item)));
            Arc::new(column.finish()) as ArrayRef
        };
        let text = |value: &dyn Fn(&TracedItem) -> Option<String>| {
            let mut column = StringBuilder::new();
            items.iter().for_each(|item| column.append_option(value(item)));
            Arc::new(column.finish()) as ArrayRef
        };
        let trial = &self.trial;
        let mut columns = vec![
            number(&|_| u32::try_from(trial.index).ok()),
            text(&|_| Some(trial.method.name().to_owned())),
            large(&|_| Some(trial.data_size)),
            number(&|_| Some(trial.workers)),
            number(&|_| Some(trial.repeat)),
            large(&|item| Some(item.sequence)),
            number(&|item| item.worker),
            large(&|item| item.bytes),
        ];
        columns.extend((0..STAGES.len()).map(|stage| {
            let mut column = TimestampNanosecondBuilder::with_capacity(items.len()).with_timezone(UTC);
            items.iter().for_each(|item| column.append_option(item.stages[stage].map(unix_nanos)));
            Arc::new(column.finish()) as ArrayRef
        }));
        columns.push(text(&|item| item.failure.clone()));
        RecordBatch::try_new(Arc::clone(&self.schema), columns)
    }
}

const UTC: &str = "UTC";

fn schema() -> SchemaRef {
    let field = |name: &str, kind| Field::new(name, kind, true);
    let mut fields = vec![
        field("trial", DataType::UInt32),
        field("method", DataType::Utf8),
        field("data_size_bytes", DataType::UInt64),
        field("workers", DataType::UInt32),
        field("repeat", DataType::UInt32),
        field("sequence", DataType::UInt64),
        field("worker", DataType::UInt32),
        field("bytes", DataType::UInt64),
    ];
    fields.extend(STAGES.map(|stage| field(stage, DataType::Timestamp(TimeUnit::Nanosecond, Some(UTC.into())))));
    fields.push(field("failure", DataType::Utf8));
    Arc::new(Schema::new(fields))
}

#[cfg(test)]
mod tests {
    use parquet::file::reader::{FileReader, SerializedFileReader};

    use super::*;
    use crate::options::StreamScalingOptions;
    use crate::plan::Method;

    fn trial() -> TrialPlan {
        let settings = StreamScalingOptions::default().plan().unwrap().plan.settings;
        TrialPlan { index: 3, path: None, settings, data_size: 1000, method: Method::Proxy, workers: 4, repeat: 0 }
    }

    #[test]
    fn every_item_is_a_row_of_a_file_that_appears_at_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let (mut trace, file) = start(dir.path(), &trial()).unwrap();
        for sequence in 0..2 * BATCH as u64 + 1 {
            trace.push(TracedItem { sequence, ..TracedItem::default() });
        }
        let path = dir.path().join("trace-0003.parquet");
        assert!(!path.exists());
        drop(trace);
        assert_eq!(file.finish().unwrap(), path);
        let reader = SerializedFileReader::new(File::open(path).unwrap()).unwrap();
        assert_eq!(reader.metadata().file_metadata().num_rows(), 2 * BATCH as i64 + 1);
        assert_eq!(dir.path().read_dir().unwrap().count(), 1);
    }

    #[test]
    fn a_directory_that_is_gone_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let gone = dir.path().join("gone");
        let error = start(&gone, &trial()).unwrap_err().to_string();
        assert!(error.contains("trace-0003.parquet"), "{error}");
    }
}
