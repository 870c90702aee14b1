//! Where tasks run.
//!
//! An [`Executor`] moves opaque task bytes out to workers and outcome bytes back. It knows nothing of
//! proxies, brokers or payloads: what a task means is up to the [`Work`] that the workers run.
//!
//! | executor | workers are | bytes move | a worker that hangs or leaks |
//! |---|---|---|---|
//! | [`ThreadExecutor`](thread::ThreadExecutor) | threads of this process (rayon) | by reference count | is left behind, up to 64 times |
//! | [`EngineExecutor`](engine::EngineExecutor) | whatever an engine of yours runs closures on | by reference count | is the engine's affair |
//! | [`ProcessExecutor`](process::ProcessExecutor) | child processes, of one thread or several | vectored over a Unix socket pair | is ended and replaced |
//! | [`PilotExecutor`](pilot::PilotExecutor) | processes that a scheduler or an engine places and that connect | vectored over TCP, by TLS where asked | is hung up on, and ends |
//! | [`BridgeExecutor`](bridge::BridgeExecutor) | those of a workflow engine of Python's, each with a child process | through the engine | is ended and replaced |
//! | [`SplitExecutor`] | those of two executors, one of which has the exclusive tasks | as theirs | as theirs |

mod ask;
pub mod bridge;
mod clock;
pub mod conformance;
mod courier;
pub mod engine;
mod fleet;
mod orders;
pub mod pilot;
pub mod process;
mod relay;
mod run;
mod split;
pub mod strangers;
mod sync;
mod task;
pub mod thread;

pub use ask::ask;
pub use fleet::worker;
pub use orders::Told;
pub use split::SplitExecutor;
pub use task::{
    ClockOffset, Executor, ExecutorError, Outcome, OutcomeSink, Overhead, Task, TaskContext, TaskError, TaskId, Work,
    WorkerEnd, WorkerId, WorkerInfo, WorkerReport,
};
