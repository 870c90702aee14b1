//! Signals: being told to end (SIGINT, SIGTERM, SIGHUP), and writes past a file's allowed size (SIGXFSZ).

use std::ffi::OsStr;
use std::future::pending;
use std::io;
use std::process::exit;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;

use futures_util::future::select_all;
use procfs::process::Process;
use tokio::runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::cli::Ending;

static WATCHED: OnceLock<Interrupts> = OnceLock::new();

/// Whether psbench was told to end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Interrupts {
    /// For threads.
    pub(crate) flag: Arc<AtomicBool>,
    /// For async code.
    pub(crate) token: CancellationToken,
}

impl Interrupts {
    /// Those of this process, which has one set of handlers; nothing interrupts a process that does not watch.
    pub(crate) fn of_this_process() -> Self {
        WATCHED.get().cloned().unwrap_or_default()
    }

    /// From here on the first signal counts as an interrupt; the second one ends psbench at once, after `clean_up`. A signal that was
    /// ignored when psbench started stays so: SIGHUP by `nohup`, SIGINT by a script that put psbench into the background.
    pub(crate) fn watch(clean_up: fn()) -> io::Result<()> {
        let interrupts = Self::default();
        let mut kinds = vec![SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
        let ignored = ignored()?;
        kinds.retain(|kind| ignored & (1 << (kind.as_raw_value() - 1)) == 0);
        let runtime = runtime::Builder::new_current_thread().enable_io().build()?;
        let mut signals = {
            let _within = runtime.enter();
            kinds.into_iter().map(signal).collect::<io::Result<Vec<_>>>()?
        };
        let told = interrupts.clone();
        thread::Builder::new().name("signals".to_owned()).spawn(move || {
            runtime.block_on(next(&mut signals));
            told.flag.store(true, Ordering::Relaxed);
            told.token.cancel();
            runtime.block_on(next(&mut signals));
            clean_up();
            // Whoever asks a second time does not want to wait.
            exit(Ending::Interrupted.code().into());
        })?;
        WATCHED.get_or_init(|| interrupts);
        Ok(())
    }

    /// The command of this name ends in order. The others end at once, as the system has it.
    pub(crate) fn matter_to(command: &OsStr) -> bool {
        ["stream-scaling", "compare-paths", "generate", "services", "s2cs", "s2uc"].iter().any(|name| command == *name)
    }
}

/// Has writes past `ulimit -f` fail with an error that is told, in place of the end of the process by SIGXFSZ.
pub(crate) fn outlive_file_limits() {
    let handled = || {
        let runtime = runtime::Builder::new_current_thread().enable_io().build()?;
        let _within = runtime.enter();
        // The handler stays when nobody listens any more.
        signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw())).map(drop)
    };
    if let Err(error) = handled() {
        tracing::debug!("a write past the limit of a file's size ends psbench: {error}");
    }
}

async fn next(signals: &mut [Signal]) {
    if signals.is_empty() {
        pending::<()>().await;
    }
    select_all(signals.iter_mut().map(|signal| Box::pin(signal.recv()))).await;
}

/// The set of signals that this process ignores.
fn ignored() -> io::Result<u64> {
    let status = Process::myself().and_then(|this| this.status()).map_err(io::Error::other)?;
    Ok(status.sigign)
}
