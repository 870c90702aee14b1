//! Each item's stages as a table in a Parquet file, one file for each trial.
//!
//! A thread of its own writes while the trial runs, so that neither memory grows with the items nor the dispatcher waits for a disk. The
//! file appears under its name when the trial has ended.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender, TrySendError};
use std::thread::{self, JoinHandle};

use parquet::basic::Compression;
use parquet::data_type::{ByteArray, ByteArrayType, DataType, Int32Type, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;

use psbench_executors::WorkerId;

use crate::clock::{Nanos, unix_nanos};
use crate::item::{ItemHead, ItemOutcome};
use crate::plan::TrialPlan;
use crate::recorder::{Dispatched, Unfinished};
use crate::scratch;

/// Items that are handed to the writing thread together.
const BATCH: usize = 4096;
/// Batches that may wait for a slow disk; beyond them items are dropped from the trace, and counted: whoever records must not wait.
const WAITING: usize = 256;
/// Items of a row group, some 16 MB of them: what waits here to be written, and what a reader takes into memory at a time.
const ROW_GROUP: usize = 64 << 10;

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
    let file = scratch::unfinished(&path).map_err(refused)?;
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
    /// Of the row group that is not full yet.
    items: Vec<TracedItem>,
    writer: SerializedFileWriter<File>,
}

impl Table {
    fn new(trial: &TrialPlan, file: File, path: PathBuf) -> Result<Self, TraceError> {
        let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
        let writer = parse_message_type(&schema())
            .and_then(|schema| SerializedFileWriter::new(file, Arc::new(schema), Arc::new(properties)));
        match writer {
            Ok(writer) => Ok(Self { path, trial: trial.clone(), items: Vec::new(), writer }),
            Err(source) => Err(TraceError::Table { path, source }),
        }
    }

    fn write(mut self, batches: &Receiver<Vec<TracedItem>>) -> Result<(), TraceError> {
        let path = self.path.clone();
        self.append_all(batches).map_err(|source| TraceError::Table { path, source })
    }

    fn append_all(&mut self, batches: &Receiver<Vec<TracedItem>>) -> Result<(), ParquetError> {
        for mut items in batches {
            self.items.append(&mut items);
            if self.items.len() >= ROW_GROUP {
                self.write_row_group()?;
            }
        }
        if !self.items.is_empty() {
            self.write_row_group()?;
        }
        self.writer.finish().map(drop)
    }

    /// The columns in the order of [`schema`].
    fn write_row_group(&mut self) -> Result<(), ParquetError> {
        let Self { items, trial, writer, .. } = self;
        let items = std::mem::take(items);
        let mut columns = Columns { items: &items, group: writer.next_row_group()? };
        let method = ByteArray::from(trial.method.name());
        columns.number(|_| u32::try_from(trial.index).ok())?;
        columns.text(|_| Some(method.clone()))?;
        columns.large(|_| Some(trial.data_size))?;
        columns.number(|_| Some(trial.workers))?;
        columns.number(|_| Some(trial.repeat))?;
        columns.large(|item| Some(item.sequence))?;
        columns.number(|item| item.worker)?;
        columns.large(|item| item.bytes)?;
        for stage in 0..STAGES.len() {
            columns.write::<Int64Type>(|item| item.stages[stage].map(unix_nanos))?;
        }
        columns.text(|item| item.failure.as_deref().map(ByteArray::from))?;
        columns.group.close().map(drop)
    }
}

/// Writes one column after the other of some items.
struct Columns<'a> {
    items: &'a [TracedItem],
    group: SerializedRowGroupWriter<'a, File>,
}

impl Columns<'_> {
    fn write<T: DataType>(&mut self, value: impl Fn(&TracedItem) -> Option<T::T>) -> Result<(), ParquetError> {
        let mut values = Vec::with_capacity(self.items.len());
        let mut present = Vec::with_capacity(self.items.len());
        for item in self.items {
            let value = value(item);
            present.push(i16::from(value.is_some()));
            values.extend(value);
        }
        let column = self.group.next_column()?;
        let mut column = column.ok_or_else(|| ParquetError::General("more columns than the schema has".into()))?;
        column.typed::<T>().write_batch(&values, Some(&present), None)?;
        column.close()
    }

    /// Parquet has unsigned numbers as signed ones of the same bits.
    fn number(&mut self, value: impl Fn(&TracedItem) -> Option<u32>) -> Result<(), ParquetError> {
        self.write::<Int32Type>(|item| value(item).map(u32::cast_signed))
    }

    fn large(&mut self, value: impl Fn(&TracedItem) -> Option<u64>) -> Result<(), ParquetError> {
        self.write::<Int64Type>(|item| value(item).map(u64::cast_signed))
    }

    fn text(&mut self, value: impl Fn(&TracedItem) -> Option<ByteArray>) -> Result<(), ParquetError> {
        self.write::<ByteArrayType>(value)
    }
}

/// In the notation of Parquet.
fn schema() -> String {
    let stages: String = STAGES.map(|stage| format!("optional int64 {stage} (TIMESTAMP(NANOS, true));\n")).concat();
    format!(
        "message trace {{
            optional int32 trial (INTEGER(32, false));
            optional binary method (STRING);
            optional int64 data_size_bytes (INTEGER(64, false));
            optional int32 workers (INTEGER(32, false));
            optional int32 repeat (INTEGER(32, false));
            optional int64 sequence (INTEGER(64, false));
            optional int32 worker (INTEGER(32, false));
            optional int64 bytes (INTEGER(64, false));
            {stages}
            optional binary failure (STRING);
        }}"
    )
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
