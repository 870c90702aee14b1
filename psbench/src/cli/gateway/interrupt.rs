//! Being told to end, in async code.

use std::io;

use futures_util::future::select_all;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::cli::Ending;

/// Is cancelled by the first SIGINT, SIGTERM or SIGHUP; the second one ends psbench at once. What `nohup` has it ignore stays ignored.
pub(in crate::cli) fn interrupts() -> io::Result<CancellationToken> {
    let mut kinds = vec![SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
    kinds.retain(|kind| !is_ignored(*kind));
    let mut signals = kinds.into_iter().map(signal).collect::<io::Result<Vec<_>>>()?;
    let interrupted = CancellationToken::new();
    let token = interrupted.clone();
    tokio::spawn(async move {
        next(&mut signals).await;
        token.cancel();
        next(&mut signals).await;
        #[expect(clippy::exit, reason = "whoever asks a second time does not want to wait")]
        std::process::exit(Ending::Interrupted.code().into());
    });
    Ok(interrupted)
}

async fn next(signals: &mut [Signal]) {
    if signals.is_empty() {
        std::future::pending::<()>().await;
    }
    select_all(signals.iter_mut().map(|signal| Box::pin(signal.recv()))).await;
}

fn is_ignored(kind: SignalKind) -> bool {
    let bit = 1_u64 << (kind.as_raw_value() - 1);
    procfs::process::Process::myself().and_then(|this| this.status()).is_ok_and(|status| status.sigign & bit != 0)
}
