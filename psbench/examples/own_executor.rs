//! An executor of one's own, on whatever runs closures: here each job gets a thread made for it.
//!
//! ```sh
//! cargo run --release --example own_executor -- stream-scaling --executor fresh-threads --ps-connector memory
//! ```
//!
//! One whose workers are other processes: see `own_launcher.rs`.

use std::process::ExitCode;
use std::sync::Arc;
use std::thread;

use psbench::sweep::ExecutorRequest;
use psbench_executors::engine::{Engine, EngineExecutor, Job};
use psbench_executors::{Executor, ExecutorError, OutcomeSink};

struct FreshThreads;

impl Engine for FreshThreads {
    fn spawn(&self, job: Job) {
        thread::spawn(job);
    }
}

pub(crate) fn start(request: ExecutorRequest, sink: Arc<dyn OutcomeSink>) -> Result<Arc<dyn Executor>, ExecutorError> {
    let ExecutorRequest { workers, sharing, work, .. } = request;
    Ok(Arc::new(EngineExecutor::start(FreshThreads, workers, sharing, work, sink)?))
}

fn main() -> ExitCode {
    psbench::Program::new().executor("fresh-threads", start).run()
}
