//! `psbench worker`: a worker process of the process executor.

use std::sync::Arc;

use psbench_executors::Work;
use psbench_executors::worker::{self, ServeError};

use crate::logging;
use crate::worker::StreamWork;

/// Runs tasks until the dispatcher asks for the end, or is gone.
///
/// # Errors
/// This process was not started by the process executor, or their conversation broke off.
pub fn serve() -> Result<(), ServeError> {
    logging::start_in_worker();
    worker::serve(|setup| Ok(Arc::new(StreamWork::from_setup(&setup)?) as Arc<dyn Work>))
}
