//! The bytes of items.

use std::collections::VecDeque;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use psbench_connectors::checksum;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::GeneratorPlan;
use crate::plan::{Pacing, PayloadSource, Pregenerate, TrialPlan};

/// The bytes of one item.
#[derive(Clone, Debug)]
pub(super) struct Payload {
    pub(super) bytes: Bytes,
    /// XXH3-64, where it was asked for.
    pub(super) checksum: Option<u64>,
}

/// Makes payloads, one after the other.
#[derive(Debug)]
pub(super) struct Payloads {
    make: Make,
    next: u64,
    /// From one payload of `make` to the next: parts of a file in between are for the items of other generators.
    step: u64,
    /// Made while there was time.
    ready: Option<Payload>,
}

#[derive(Debug)]
enum Make {
    /// Made beforehand and used in turn.
    Ring { payloads: Vec<Payload>, kind: &'static str },
    /// Made one at a time.
    Afresh(Maker),
}

#[derive(Debug)]
struct Maker {
    source: Source,
    size: usize,
    checksummed: bool,
    /// Payloads handed out: the buffer of one that nobody holds any more is used again, since fresh memory is slow to touch.
    out: VecDeque<Bytes>,
}

#[derive(Debug)]
enum Source {
    Random(SmallRng),
    File { file: File, path: PathBuf, parts: u64 },
}

/// Memory that payloads made beforehand may take, of each generator.
const RING_BYTES: usize = 64 << 20;
const RING_PAYLOADS: usize = 64;

/// Files are read once and stay in memory where that takes at most so much, of all generators together.
const FILE_IN_MEMORY: u64 = 1 << 30;

/// Buffers remembered for another use.
const BUFFERS: usize = 8;

/// Payloads can't be made.
#[derive(Debug, thiserror::Error)]
pub(super) enum PayloadError {
    #[error("payload file {}: {source}", path.display())]
    File { path: PathBuf, source: std::io::Error },
    #[error("no memory for an item of {0} bytes; write smaller items, or fewer at a time: --max-inflight-items")]
    Memory(usize),
}

/// How many payloads a generator of a trial has memory for at a time, beside those that somebody still holds, and whether what is held are
/// these: then it takes no more memory.
pub(crate) fn at_once(trial: &TrialPlan) -> (u64, bool) {
    let settings = &trial.settings;
    let count = settings.task_count.div_ceil(settings.generators.max(1).into());
    match (&settings.payload, trial.pacing()) {
        (PayloadSource::Random { pregenerate: Pregenerate::Always }, _)
        | (PayloadSource::Random { pregenerate: Pregenerate::Auto }, Pacing::Max) => {
            (variants(usize::try_from(trial.data_size).unwrap_or(usize::MAX), count), true)
        }
        (PayloadSource::Random { .. } | PayloadSource::File(_), _) => (count.min(2), false),
    }
}

/// How many payloads are made ahead.
fn variants(size: usize, count: u64) -> u64 {
    ((RING_BYTES / size.max(1)).clamp(2, RING_PAYLOADS) as u64).min(count)
}

impl Payloads {
    /// Those of a plan's items, in their order, each of `size` bytes.
    pub(super) fn new(plan: &GeneratorPlan, size: usize) -> Result<Self, PayloadError> {
        let (share, checksummed) = (plan.share, plan.verify);
        let (make, next, step) = match &plan.payload {
            PayloadSource::Random { pregenerate } => {
                let maker = Maker::new(Source::Random(SmallRng::seed_from_u64(plan.seed)), size, checksummed);
                let pacing = match plan.pacing {
                    Pacing::Interval(interval) => Pacing::Interval(interval.saturating_mul(share.generators)),
                    Pacing::Max => Pacing::Max,
                };
                (random(maker, *pregenerate, pacing, share.of(plan.count))?, 0, 1)
            }
            PayloadSource::File(path) => {
                (file(path, size, checksummed, share.generators)?, share.generator.into(), share.generators.into())
            }
        };
        Ok(Self { make, next, step, ready: None })
    }

    /// The next payload.
    pub(super) fn next(&mut self) -> Result<Payload, PayloadError> {
        if let Some(ready) = self.ready.take() {
            return Ok(ready);
        }
        let n = self.next;
        self.next += self.step;
        match &mut self.make {
            Make::Ring { payloads, .. } => Ok(payloads[n as usize % payloads.len()].clone()),
            Make::Afresh(maker) => maker.make(n),
        }
    }

    /// Makes the next payload now, so that it is there when its item is due.
    pub(super) fn prepare(&mut self) -> Result<(), PayloadError> {
        if self.ready.is_none() {
            self.ready = Some(self.next()?);
        }
        Ok(())
    }

    /// How they are made, for people.
    pub(super) fn describe(&self) -> String {
        match &self.make {
            Make::Ring { payloads, kind } => format!("{kind} ({} variants)", payloads.len()),
            Make::Afresh(Maker { source: Source::Random(_), .. }) => "fresh".into(),
            Make::Afresh(Maker { source: Source::File { .. }, .. }) => "file".into(),
        }
    }
}

fn random(mut maker: Maker, pregenerate: Pregenerate, pacing: Pacing, count: u64) -> Result<Make, PayloadError> {
    let variants = variants(maker.size, count);
    let ahead = match pregenerate {
        Pregenerate::Always => true,
        Pregenerate::Never => false,
        Pregenerate::Auto => match pacing {
            Pacing::Max => true,
            Pacing::Interval(interval) => making_time(&mut maker)? > interval / 4,
        },
    };
    if !ahead {
        return Ok(Make::Afresh(maker));
    }
    let payloads = (0..variants).map(|n| maker.make(n)).collect::<Result<_, _>>()?;
    Ok(Make::Ring { payloads, kind: "pregenerated" })
}

/// The time to make one payload, in memory that was used before.
fn making_time(maker: &mut Maker) -> Result<Duration, PayloadError> {
    drop(maker.make(0)?);
    let started = Instant::now();
    drop(maker.make(0)?);
    Ok(started.elapsed())
}

fn file(path: &Path, size: usize, checksummed: bool, generators: u32) -> Result<Make, PayloadError> {
    let failed = |source| PayloadError::File { path: path.into(), source };
    let file = File::open(path).map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    if length == 0 {
        return Err(failed(std::io::Error::other("it is empty; give a file with at least one byte")));
    }
    let parts = length / size as u64;
    if parts > 0 && length > FILE_IN_MEMORY / u64::from(generators) {
        let source = Source::File { file, path: path.into(), parts };
        return Ok(Make::Afresh(Maker::new(source, size, checksummed)));
    }
    let content = Bytes::from(std::fs::read(path).map_err(failed)?);
    let parts: Vec<Bytes> = if parts == 0 {
        // Shorter than one item: from its beginning again until the item is full.
        let mut item = Vec::new();
        item.try_reserve_exact(size).map_err(|_| PayloadError::Memory(size))?;
        item.extend(content.iter().copied().cycle().take(size));
        vec![item.into()]
    } else {
        (0..parts as usize).map(|n| content.slice(n * size..(n + 1) * size)).collect()
    };
    let payloads =
        parts.into_iter().map(|bytes| Payload { checksum: checksummed.then(|| checksum(&bytes)), bytes }).collect();
    Ok(Make::Ring { payloads, kind: "file" })
}

impl Maker {
    fn new(source: Source, size: usize, checksummed: bool) -> Self {
        Self { source, size, checksummed, out: VecDeque::new() }
    }

    fn make(&mut self, n: u64) -> Result<Payload, PayloadError> {
        let mut buffer = self.buffer()?;
        match &mut self.source {
            Source::Random(random) => random.fill_bytes(&mut buffer),
            Source::File { file, path, parts } => file
                .read_exact_at(&mut buffer, (n % *parts) * self.size as u64)
                .map_err(|source| PayloadError::File { path: path.clone(), source })?,
        }
        let bytes = Bytes::from(buffer);
        if self.out.len() < BUFFERS {
            self.out.push_back(bytes.clone());
        }
        Ok(Payload { checksum: self.checksummed.then(|| checksum(&bytes)), bytes })
    }

    /// A buffer of the payloads' size, with whatever content.
    fn buffer(&mut self) -> Result<Vec<u8>, PayloadError> {
        for _ in 0..self.out.len() {
            match self.out.pop_front() {
                Some(oldest) if oldest.is_unique() => return Ok(oldest.into()),
                Some(oldest) => self.out.push_back(oldest),
                None => break,
            }
        }
        let mut buffer = Vec::new();
        buffer.try_reserve_exact(self.size).map_err(|_| PayloadError::Memory(self.size))?;
        buffer.resize(self.size, 0);
        Ok(buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::brokers::BrokerConfig;
    use crate::plan::Share;

    const RANDOM: PayloadSource = PayloadSource::Random { pregenerate: Pregenerate::Never };

    /// Of 100 items with checksums, all due at once.
    fn plan(payload: PayloadSource) -> GeneratorPlan {
        GeneratorPlan {
            broker: BrokerConfig::Own { name: "none".into(), place: String::new() },
            topic: String::new(),
            store: None,
            count: 100,
            share: Share::ALL,
            size: 0,
            pacing: Pacing::Max,
            allowance: None,
            start: None,
            payload,
            seed: 1,
            verify: true,
        }
    }

    fn random(pregenerate: Pregenerate, pacing: Pacing) -> Payloads {
        let plan = GeneratorPlan { pacing, ..plan(PayloadSource::Random { pregenerate }) };
        Payloads::new(&plan, 1000).unwrap()
    }

    #[test]
    fn fresh_payloads_all_differ_and_follow_from_the_seed() {
        let take = |seed| {
            let mut payloads = Payloads::new(&GeneratorPlan { seed, ..plan(RANDOM) }, 1000).unwrap();
            (0..50).map(|_| payloads.next().unwrap().bytes.to_vec()).collect::<Vec<_>>()
        };
        let mut some = take(1);
        assert_eq!(some, take(1));
        assert_ne!(some, take(2));
        some.sort();
        some.dedup();
        assert_eq!(some.len(), 50);
    }

    #[test]
    fn a_held_payload_is_not_written_over() {
        let mut payloads = Payloads::new(&plan(RANDOM), 1000).unwrap();
        let held: Vec<Payload> = (0..30).map(|_| payloads.next().unwrap()).collect();
        for _ in 0..30 {
            drop(payloads.next().unwrap());
        }
        assert!(held.iter().all(|payload| payload.checksum == Some(checksum(&payload.bytes))));
    }

    #[test]
    fn they_are_made_beforehand_when_there_is_no_time() {
        assert!(random(Pregenerate::Auto, Pacing::Max).describe().starts_with("pregenerated"));
        assert_eq!(random(Pregenerate::Auto, Pacing::Interval(Duration::from_secs(1))).describe(), "fresh");
        assert_eq!(random(Pregenerate::Never, Pacing::Max).describe(), "fresh");
    }

    #[test]
    fn preparing_changes_nothing_but_the_time() {
        let mut prepared = random(Pregenerate::Never, Pacing::Max);
        prepared.prepare().unwrap();
        prepared.prepare().unwrap();
        let mut plain = random(Pregenerate::Never, Pacing::Max);
        for _ in 0..3 {
            assert_eq!(prepared.next().unwrap().bytes, plain.next().unwrap().bytes);
        }
    }

    #[test]
    fn a_file_is_replayed_part_by_part() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("frames");
        std::fs::write(&path, b"aaabbbcc").unwrap();
        let replay = plan(PayloadSource::File(path));
        let take = |share, count| {
            let mut payloads = Payloads::new(&GeneratorPlan { share, ..replay.clone() }, 3).unwrap();
            (0..count).map(|_| payloads.next().unwrap().bytes).collect::<Vec<Bytes>>()
        };
        assert_eq!(take(Share::ALL, 3), ["aaa", "bbb", "aaa"]);
        // The same for the items 0, 3 and 6, and 1, 4 and 7, of three generators.
        assert_eq!(take(Share { generator: 0, generators: 3 }, 3), ["aaa", "bbb", "aaa"]);
        assert_eq!(take(Share { generator: 1, generators: 3 }, 3), ["bbb", "aaa", "bbb"]);
        let mut larger = Payloads::new(&replay, 10).unwrap();
        assert_eq!(larger.next().unwrap().bytes, "aaabbbccaa");
    }

    #[test]
    fn a_file_that_cannot_serve_is_named() {
        let missing = PayloadSource::File("/nonexistent/frames".into());
        let error = Payloads::new(&plan(missing), 3).unwrap_err();
        assert!(error.to_string().contains("/nonexistent/frames"), "{error}");
        let empty = tempfile::NamedTempFile::new().unwrap();
        let error = Payloads::new(&plan(PayloadSource::File(empty.path().into())), 3).unwrap_err();
        assert!(error.to_string().contains("empty"), "{error}");
    }
}
