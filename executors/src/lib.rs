//! Where tasks run.
//!
//! An [`Executor`] moves opaque task bytes out to workers and outcome bytes back. It knows nothing of
//! proxies, brokers or payloads: what a task means is up to the [`Work`] that the workers run.
//!
//! | executor | workers are | bytes move |
//! |---|---|---|
//! | [`ThreadExecutor`](thread::ThreadExecutor) | threads of this process (rayon) | by reference count |
//! | [`EngineExecutor`](engine::EngineExecutor) | whatever an engine of yours runs closures on | by reference count |
//! | [`ProcessExecutor`](process::ProcessExecutor) | child processes | vectored over a Unix socket pair |

pub mod conformance;
mod courier;
pub mod engine;
pub mod process;
mod run;
mod sync;
mod task;
pub mod thread;

pub use task::{
    Executor, ExecutorError, Outcome, OutcomeSink, Task, TaskContext, TaskError, TaskId, Work, WorkerId, WorkerInfo,
    WorkerReport,
};
