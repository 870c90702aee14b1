//! What sessions may have.

use std::path::PathBuf;

use scistream::ControlConfig;
use scistream::control::Quotas;

use crate::units::Seconds;

const HEADING: &str = "Sessions";

/// What sessions may have, and for how long.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = HEADING)]
pub(super) struct SessionOptions {
    /// How long a request waits for the application's hello, and hello for its request
    #[arg(long, value_name = "SECONDS", default_value = "180s")]
    hello_timeout: Seconds,

    /// How long a session that was greeted waits for its targets
    #[arg(long, value_name = "SECONDS", default_value = "1h")]
    update_timeout: Seconds,

    /// How long a session lasts at most [default: until it is released]
    #[arg(long, value_name = "SECONDS")]
    max_session: Option<Seconds>,

    /// End a session through which nothing went for so long [default: never]. Types nginx and stunnel don't tell what goes through them:
    /// their sessions are never idle
    #[arg(long, value_name = "SECONDS")]
    idle_session: Option<Seconds>,

    /// Sessions at once, in all
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    most_sessions: usize,

    /// Sessions at once of one client's identity [default: as many as there are]
    #[arg(long, value_name = "N")]
    quota_sessions: Option<usize>,

    /// Ports of all sessions of one identity [default: as many as there are]
    #[arg(long, value_name = "N")]
    quota_ports: Option<usize>,

    /// The sum of the rates that the sessions of one identity ask for, in kb/s [default: unlimited]. Without --enforce-rate it bounds what
    /// is asked for, not what goes through
    #[arg(long, value_name = "KBPS")]
    quota_rate: Option<u64>,

    /// Keep sessions to the rates that they ask for. The usual user client asks for 10000 kb/s where nobody chose one
    #[arg(long)]
    enforce_rate: bool,

    /// Where its lock and what its data servers need is kept [default: psbench-s2cs-UID-PORT in the temporary directory]
    #[arg(long, value_name = "DIR")]
    pub(super) state_dir: Option<PathBuf>,

    /// Leave sessions to the next control server with this --state-dir, which forwards at the same ports to the same targets; otherwise
    /// they end with this one
    #[arg(long, requires = "state_dir")]
    keep_sessions: bool,
}

impl SessionOptions {
    pub(super) fn ends_idle_ones(&self) -> bool {
        self.idle_session.is_some()
    }

    pub(super) fn apply(&self, config: &mut ControlConfig) {
        config.hello_timeout = self.hello_timeout.duration();
        config.update_timeout = self.update_timeout.duration();
        config.max_session = self.max_session.map(Seconds::duration);
        config.idle_limit = self.idle_session.map(Seconds::duration);
        config.limits.sessions = self.most_sessions;
        config.quotas = Quotas { sessions: self.quota_sessions, ports: self.quota_ports, rate: self.quota_rate };
        config.enforce_rate = self.enforce_rate;
        config.keep_sessions = self.keep_sessions;
    }
}
