//! Control servers and user clients, ours and the reference's ways.

#[path = "../../control/double.rs"]
mod double;
mod endings;
mod held;
mod identities;
mod kept;
mod limits;
mod paths;
mod reference;
mod sessions;
mod stock;
mod tls;
mod wrong;
