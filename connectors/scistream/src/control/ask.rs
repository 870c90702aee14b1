//! What user clients ask for, once it is checked.

use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::error::SessionError;
use crate::dataserver::DataServer;
use crate::forward::{MOST_AHEAD, MOST_STRIPES, SECRET_LEN, Secret, Target, Transport};
use crate::{Role, proto};

/// The most characters of `host:port`: a name has 253.
pub(crate) const LONGEST_TARGET: usize = 260;

/// Of a client whose session ends with that, in seconds: a day.
const LONGEST_SILENCE: u32 = 86_400;

/// What a session is asked to be.
#[derive(Clone)]
pub(crate) struct Ask {
    pub(crate) uid: Uuid,
    pub(crate) role: Role,
    /// Ports.
    pub(crate) count: usize,
    /// In kb/s; 0: nobody said.
    pub(crate) rate: u64,
    pub(crate) server: Arc<dyn DataServer>,
    pub(crate) transport: Transport,
    /// What the user client handed to both gateways.
    pub(crate) key: Option<[u8; SECRET_LEN]>,
    pub(crate) preconnect: Option<usize>,
    pub(crate) stripes: Option<usize>,
    /// For how long its client may be silent, while nothing goes through it.
    pub(crate) attended: Option<Duration>,
}

impl Ask {
    /// What both gateways of the session know.
    pub(crate) fn secret(&self) -> Secret {
        self.key.map_or_else(|| Secret::of(self.uid), Secret::random)
    }
}

/// What is wrong with a field.
pub(crate) fn invalid(field: &'static str, problem: impl Into<String>) -> SessionError {
    SessionError::Invalid { field, problem: problem.into() }
}

pub(crate) fn uid(text: &str) -> Result<Uuid, SessionError> {
    Uuid::try_parse(text).map_err(|_| invalid("uid", format!("not a UUID: {:?}", excerpt(text))))
}

/// So much of somebody's text as an error repeats.
fn excerpt(text: &str) -> &str {
    text.get(..text.floor_char_boundary(80)).unwrap_or_default()
}

/// The role; older user clients leave it out of what goes to a session that has one.
pub(crate) fn role(text: &str) -> Result<Option<Role>, SessionError> {
    if text.is_empty() { Ok(None) } else { Ok(Some(excerpt(text).parse()?)) }
}

/// Ports, of which there are this many in all.
pub(crate) fn count(asked: i32, all: usize) -> Result<usize, SessionError> {
    usize::try_from(asked).ok().filter(|asked| (1..=all).contains(asked)).ok_or_else(|| {
        invalid(
            "num_conn",
            format!("{asked} ports asked for, of {all} that this control server has; ask for 1 to {all}"),
        )
    })
}

/// In kb/s.
pub(crate) fn rate(asked: i32) -> Result<u64, SessionError> {
    u64::try_from(asked).map_err(|_| invalid("rate", format!("{asked} kb/s; 0 is no rate in particular")))
}

/// Texts that may be targets: so many, so long.
pub(crate) fn bounded(texts: &[String], most: usize) -> Result<(), SessionError> {
    if texts.len() > most {
        return Err(invalid("listeners", format!("{} of them; {most} at most", texts.len())));
    }
    match texts.iter().find(|text| text.len() > LONGEST_TARGET) {
        Some(text) => Err(invalid("listeners", format!("{:?}… is too long", excerpt(text)))),
        None => Ok(()),
    }
}

/// Whether a text of a list is nothing: what the usual user client makes of a comma at the end, of its targets or of its ports.
pub(crate) fn is_empty(text: &str) -> bool {
    text.is_empty() || text.ends_with(':')
}

/// Where listeners are to forward to. Some user clients hand several on as one text, with commas.
pub(crate) fn targets(texts: &[String], most: usize) -> Result<Vec<Target>, SessionError> {
    let texts = texts.iter().flat_map(|text| text.split(',')).map(str::trim);
    let texts: Vec<_> = texts.filter(|text| !is_empty(text)).collect();
    if texts.len() > most {
        return Err(invalid("remote_listeners", format!("{} of them; {most} at most", texts.len())));
    }
    let parse = |text: &str| -> Result<Target, SessionError> {
        // What is longer is no target, whole or not.
        Ok(text.get(..text.floor_char_boundary(LONGEST_TARGET)).unwrap_or_default().parse()?)
    };
    texts.into_iter().map(parse).collect()
}

/// What of its wishes is no matter of the type.
pub(crate) struct Wishes {
    pub(crate) transport: Transport,
    pub(crate) key: Option<[u8; SECRET_LEN]>,
    pub(crate) preconnect: Option<usize>,
    pub(crate) stripes: Option<usize>,
    pub(crate) attended: Option<Duration>,
}

impl Wishes {
    pub(crate) fn of(wishes: &proto::Wishes) -> Result<Self, SessionError> {
        let transport = match wishes.transport.as_str() {
            "" | "tcp" => Transport::Tcp,
            "udp" => Transport::Udp,
            other => return Err(invalid("transport", format!("{:?}; there are tcp and udp", excerpt(other)))),
        };
        let key = match wishes.key.as_slice() {
            [] => None,
            key => Some(
                key.try_into().map_err(|_| invalid("key", format!("{} bytes; expected {SECRET_LEN}", key.len())))?,
            ),
        };
        let within = |field, least: u32, most: u32, asked: Option<u32>| match asked {
            Some(asked) if !(least..=most).contains(&asked) => {
                Err(invalid(field, format!("{asked}; expected {least} to {most}")))
            }
            asked => Ok(asked.map(|asked| asked as usize)),
        };
        let preconnect = within("preconnect", 0, MOST_AHEAD, wishes.preconnect)?;
        let stripes = within("stripes", 1, MOST_STRIPES, wishes.stripes)?;
        let attended = within("attended", 1, LONGEST_SILENCE, wishes.attended)?;
        let attended = attended.map(|seconds| Duration::from_secs(seconds as u64));
        Ok(Self { transport, key, preconnect, stripes, attended })
    }
}
