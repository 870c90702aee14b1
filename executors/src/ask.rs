//! Asks a program something that it answers and ends, as for its version.

use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

/// The most that a program says, bytes.
const MOST: u64 = 16 << 20;

/// Between looks at whether a program that has said all has ended.
const LOOK: Duration = Duration::from_millis(2);

/// Runs a program to its end and returns what it said, as [`Command::output`] does, but for no longer than `limit`. It gets an empty
/// standard input and a process group of its own, and ends with all that it started in that where the limit ends it.
///
/// # Errors
///
/// It can't be run, or, as [`io::ErrorKind::TimedOut`], did not answer in time.
pub fn ask(command: &mut Command, limit: Duration) -> io::Result<Output> {
    let until = Instant::now() + limit;
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0).spawn()?;
    let group = Pid::from_child(&child);
    let (stdout, stderr) = (collect(child.stdout.take()), collect(child.stderr.take()));
    let mut answer = || -> io::Result<(ExitStatus, Vec<u8>, Vec<u8>)> {
        let (stdout, stderr) = (within(&stdout, until)?, within(&stderr, until)?);
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok((status, stdout, stderr));
            }
            if Instant::now() >= until {
                return Err(io::ErrorKind::TimedOut.into());
            }
            thread::sleep(LOOK);
        }
    };
    match answer() {
        Ok((status, stdout, stderr)) => Ok(Output { status, stdout, stderr }),
        Err(error) => {
            // Not waited for yet, so that the number is still its group's.
            let _ = kill_process_group(group, Signal::KILL);
            let _ = child.wait();
            if error.kind() == io::ErrorKind::TimedOut {
                let problem = format!("did not answer within {} s", limit.as_secs_f32());
                return Err(io::Error::new(io::ErrorKind::TimedOut, problem));
            }
            Err(error)
        }
    }
}

/// Reads to the end in a thread: whoever inherited the other end may hold it longer than anybody wants to wait.
fn collect(from: Option<impl Read + Send + 'static>) -> Receiver<io::Result<Vec<u8>>> {
    let (done, wait) = mpsc::channel();
    let told = done.clone();
    let collect = move || {
        let mut all = Vec::new();
        let read = from.map_or(Ok(0), |from| from.take(MOST + 1).read_to_end(&mut all));
        let _ = done.send(match read {
            Ok(_) if all.len() as u64 > MOST => {
                Err(io::Error::new(io::ErrorKind::InvalidData, format!("said more than {} MiB", MOST >> 20)))
            }
            read => read.map(|_| all),
        });
    };
    if let Err(refused) = thread::Builder::new().spawn(collect) {
        let _ = told.send(Err(refused));
    }
    wait
}

fn within(collected: &Receiver<io::Result<Vec<u8>>>, until: Instant) -> io::Result<Vec<u8>> {
    match collected.recv_timeout(until.saturating_duration_since(Instant::now())) {
        Ok(all) => all,
        Err(RecvTimeoutError::Timeout) => Err(io::ErrorKind::TimedOut.into()),
        Err(RecvTimeoutError::Disconnected) => Err(io::ErrorKind::BrokenPipe.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str, limit: Duration) -> io::Result<Output> {
        ask(Command::new("sh").args(["-c", script]), limit)
    }

    #[test]
    fn what_a_program_said_is_returned_with_its_end() {
        let told = sh("echo 4.1; echo no >&2; exit 3", Duration::from_secs(60)).unwrap();
        assert_eq!((told.stdout, told.stderr, told.status.code()), (b"4.1\n".to_vec(), b"no\n".to_vec(), Some(3)));
        // More than a pipe holds.
        let told = sh("head -c 300000 /dev/zero", Duration::from_secs(60)).unwrap();
        assert_eq!(told.stdout.len(), 300_000);
        let error = sh("yes", Duration::from_secs(60)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
        assert_eq!(ask(&mut Command::new("/nowhere"), LOOK).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn one_that_hangs_ends_with_what_it_started() {
        let started = Instant::now();
        // The last one has ended, but for who holds its output; the one before has said all.
        for script in ["sleep 600; true", "exec >&- 2>&-; sleep 600", "sleep 600 & exit 0"] {
            let error = sh(script, Duration::from_millis(100)).unwrap_err();
            assert_eq!(error.to_string(), "did not answer within 0.1 s", "{script}");
        }
        assert!(started.elapsed() < Duration::from_secs(300));
    }
}
