//! psbench.

use std::process::ExitCode;

use mimalloc::MiMalloc;
use psbench::Program;

/// glibc's allocator returns large blocks to the system and faults their pages in anew each time.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    Program::new().run()
}
