//! Calls into a [`Work`] with its panics contained.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;

use crate::{Task, TaskContext, Work};

/// Runs one task; a panic is an error with the panic's message.
///
/// Unwind safety is the work's own affair: it is shared between threads, so what it keeps is behind locks or atomics.
pub(crate) fn run(work: &dyn Work, task: Task, context: &TaskContext<'_>) -> Result<Bytes, String> {
    catch_unwind(AssertUnwindSafe(|| work.run(task, context)))
        .unwrap_or_else(|panic| Err(format!("panicked: {}", message(&*panic))))
}

/// Asks for the work's last words, `None` after a panic.
pub(crate) fn finish(work: &dyn Work) -> Option<Bytes> {
    catch_unwind(AssertUnwindSafe(|| work.finish()))
        .inspect_err(|panic| tracing::error!(panic = message(&**panic), "the work's end panicked"))
        .ok()
}

/// Asks for what the work has to tell so far, nothing after a panic.
pub(crate) fn progress(work: &dyn Work) -> Bytes {
    catch_unwind(AssertUnwindSafe(|| work.progress())).unwrap_or_default()
}

fn message(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}
