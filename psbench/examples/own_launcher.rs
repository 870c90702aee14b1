//! An executor of one's own whose workers are other processes: a command of the user's starts each, as a site's own launcher would.
//!
//! ```sh
//! cargo run --release --example own_launcher -- stream-scaling --executor by-command --executor-option prefix='nice -n 5'
//! ```

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;

use psbench::sweep::{ExecutorFactory, ExecutorRequest};
use psbench_executors::pilot::PilotExecutor;
use psbench_executors::pilot::launch::{CommandLauncher, LaunchCommand};
use psbench_executors::{Executor, ExecutorError, OutcomeSink};

pub(crate) struct ByCommand;

const PREFIX: &str = "prefix";

impl ExecutorFactory for ByCommand {
    fn start(&self, request: ExecutorRequest, sink: Arc<dyn OutcomeSink>) -> Result<Arc<dyn Executor>, ExecutorError> {
        let script = format!("exec {} \"$0\" \"$@\"", request.options.get(PREFIX).map_or("", String::as_str));
        let worker = request.processes.command;
        let launcher = CommandLauncher::new(move |invitation, workers| {
            // The token is in the environment of what is started, and has to get to the worker.
            let shell = ["sh", "-c", &script].map(Into::into);
            let command = [&shell[..], &worker, &[(&invitation.address).into()]].concat();
            let launch = LaunchCommand { name: "by-command".to_owned(), command, env: Vec::new(), input: None };
            vec![launch; workers as usize]
        });
        Ok(Arc::new(PilotExecutor::start(&request.processes.placed, Box::new(launcher), sink)?))
    }

    fn check(&self, options: &BTreeMap<String, String>) -> Result<(), String> {
        match options.keys().find(|name| *name != PREFIX) {
            None => Ok(()),
            Some(other) => Err(format!("has no option {other}; write --executor-option {PREFIX}=COMMAND")),
        }
    }

    fn in_processes(&self) -> bool {
        true
    }
}

fn main() -> ExitCode {
    psbench::Program::new().executor("by-command", ByCommand).run()
}
