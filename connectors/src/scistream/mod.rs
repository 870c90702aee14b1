//! Objects in the memory of the process that stored them, which others reach through on-demand proxies of SciStream.
//!
//! The generator's [`ScistreamServer`] holds the objects as the `peer` connector does, and asks the control servers of two gateways for
//! a path: worker → the consumer's gateway → the producer's gateway → generator. Each worker's [`ScistreamClient`] connects to the
//! consumer's gateway, which at each site of consumers may be another: a proxy names the listeners of all of them.
//!
//! What crosses a site's border breaks more often than what stays within. A worker tries again over another connection, and an object
//! stays until it has arrived. A gateway that was started again without its sessions has lost its path: that is made anew, for what is
//! stored from then on.

mod client;
mod keeper;
mod patience;
mod reach;
mod server;
mod site;

pub use self::client::ScistreamClient;
pub use self::reach::{Consumer, Crossing, Exit, Reach, Route, Site, Ways};
pub(crate) use self::server::abandon;
pub use self::server::{ScistreamServer, address_towards};
pub use self::site::{SITE_VARIABLE, be_at};
use crate::descriptor::Descriptor;

pub(crate) const DESCRIPTOR: Descriptor =
    Descriptor::of::<Ways>(NAME, "The generator's memory, through two gateways of SciStream");

const NAME: &str = "scistream";
