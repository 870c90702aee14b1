//! Where a lane's datagrams go.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::net::lookup_host;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::PAUSE;
use crate::forward::{Meter, Target};

/// How often a name is looked up again.
const LOOK_UP: Duration = Duration::from_secs(30);

/// Addresses of a target, in the order in which they are to be tried.
pub(super) type Addresses = Vec<SocketAddr>;

/// Finds out where a target is, and again from time to time if it has a name. That it can't is counted once until it can.
pub(super) async fn follow(target: &Target, patience: Duration, meter: &Meter, found: &watch::Sender<Addresses>) {
    let look_up = || async { Ok(lookup_host((target.host(), target.port())).await?.collect()) };
    let is_name = target.host().parse::<IpAddr>().is_err();
    follow_by(look_up, is_name, target, patience, meter, found).await;
}

async fn follow_by<F: Future<Output = io::Result<Addresses>>>(
    look_up: impl Fn() -> F,
    is_name: bool,
    target: &Target,
    patience: Duration,
    meter: &Meter,
    found: &watch::Sender<Addresses>,
) {
    let mut known = true;
    loop {
        let looked_up = timeout(patience, look_up()).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        let nowhere = || io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        match looked_up.and_then(|addresses| (!addresses.is_empty()).then_some(addresses).ok_or_else(nowhere)) {
            Ok(addresses) => {
                known = true;
                found.send_if_modified(|before| {
                    let changed = *before != addresses;
                    *before = addresses;
                    changed
                });
                if !is_name {
                    return;
                }
                sleep(LOOK_UP).await;
            }
            Err(error) => {
                if known {
                    meter.refused();
                    tracing::debug!("target {target}: {error}");
                }
                known = false;
                sleep(PAUSE).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_name_is_followed_and_counts_once_each_time_that_it_is_lost() {
        let at = |port| Ok(vec![SocketAddr::from(([127, 0, 0, 1], port))]);
        let lost = || Err(io::ErrorKind::NotFound.into());
        let answers = [lost(), lost(), at(1), at(1), Ok(Vec::new()), lost(), lost(), at(2)];
        let answers = RefCell::new(answers.into_iter());
        let look_up = || async {
            let answer = answers.borrow_mut().next();
            match answer {
                Some(answer) => answer,
                None => std::future::pending().await,
            }
        };
        let (meter, (found, mut targets)) = (Meter::default(), watch::channel(Vec::new()));
        let target = "gateway:1".parse().unwrap();
        let following = follow_by(look_up, true, &target, Duration::MAX, &meter, &found);
        let heard = async {
            for expected in [(1, 1), (2, 2)] {
                targets.changed().await.unwrap();
                let port = targets.borrow_and_update()[0].port();
                assert_eq!((port, meter.traffic().connections_refused), expected);
            }
        };
        tokio::select! {
            () = following => panic!("a name may always change"),
            () = heard => {}
        }
    }
}
