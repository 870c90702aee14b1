//! What a control server does by itself: it looks at its sessions, measures their rates, and ends those whose time is over.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::{MissedTickBehavior, interval};

use super::server::Control;

/// How often it looks, where no limit is shorter.
const PERIOD: Duration = Duration::from_secs(1);

/// The shortest of limits is kept to within a quarter.
const LOOKS_PER_LIMIT: u32 = 4;

/// Looks after sessions until it is dropped.
pub(crate) async fn care(control: Arc<Control>) {
    let config = &control.config;
    let (max_session, idle_limit, update_timeout) = (config.max_session, config.idle_limit, config.update_timeout);
    let shortest = [max_session, idle_limit, Some(update_timeout)].into_iter().flatten().min();
    let period = shortest.map_or(PERIOD, |limit| PERIOD.min(limit / LOOKS_PER_LIMIT)).max(Duration::from_millis(10));
    let mut looks = interval(period);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        for session in control.table.all() {
            session.sample(Instant::now());
            if let Some(why) = session.due(max_session, idle_limit, update_timeout) {
                control.begin_end(&session, why);
            }
        }
    }
}
