//! Control servers of psbench's own, for one run: they live as long as whoever started them holds on to their standard input.

use std::io::{self, BufRead, Read};
use std::thread;

use tokio_util::sync::CancellationToken;

/// Of the token's line, in bytes.
const LONGEST_LINE: u64 = 1024;

/// The token in the first line of standard input.
pub(super) fn read_token() -> io::Result<String> {
    let mut line = String::new();
    io::stdin().lock().take(LONGEST_LINE).read_line(&mut line)?;
    match line.strip_suffix('\n') {
        Some(token) if !token.is_empty() => Ok(token.to_owned()),
        _ => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "standard input has no line with a token")),
    }
}

/// Cancels when standard input ends.
///
/// # Errors
/// The system refuses a thread.
pub(super) fn hold_on(end: CancellationToken) -> io::Result<()> {
    let hold = move || {
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
        end.cancel();
    };
    thread::Builder::new().name("s2cs-lifeline".into()).spawn(hold).map(drop)
}
