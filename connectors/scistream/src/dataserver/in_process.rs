//! Data servers whose sessions this process forwards itself.

use std::future::ready;
use std::io;

use futures_util::future::BoxFuture;

use super::{DataServer, DataServerError, DataServerType};
use crate::forward::{ForwardOptions, ForwardPlan, Forwarding, Transport};

/// What such data servers differ in. All of them keep to rates.
pub(super) trait InProcess: Send + Sync + 'static {
    const KIND: DataServerType;
    const FORWARDS_UDP: bool = false;

    /// As [`DataServer::check`].
    fn works(&self) -> Result<(), DataServerError> {
        Ok(())
    }

    /// As [`DataServer::refuses`].
    fn cannot(&self, options: &ForwardOptions, transport: Transport) -> Option<String> {
        whole_streams_only(options, transport)
    }

    /// As [`DataServer::start`], of what it does not refuse.
    fn forward(&self, plan: ForwardPlan) -> io::Result<Box<dyn Forwarding>>;
}

impl<S: InProcess> DataServer for S {
    fn kind(&self) -> DataServerType {
        S::KIND
    }

    fn check(&self) -> Result<(), DataServerError> {
        self.works()
    }

    fn enforces_rate(&self) -> bool {
        true
    }

    fn forwards_udp(&self) -> bool {
        S::FORWARDS_UDP
    }

    fn refuses(&self, options: &ForwardOptions, transport: Transport) -> Option<String> {
        self.cannot(options, transport)
    }

    fn start(&self, plan: ForwardPlan) -> BoxFuture<'_, Result<Box<dyn Forwarding>, DataServerError>> {
        let kind = S::KIND;
        let started = match self.cannot(&plan.options, plan.transport) {
            Some(problem) => Err(DataServerError::Unsupported { kind, problem }),
            None => {
                self.forward(plan).map_err(|source| DataServerError::Start { kind, what: "can't start".into(), source })
            }
        };
        Box::pin(ready(started))
    }
}

/// Refuses datagrams, and streams over several connections.
pub(super) fn whole_streams_only(options: &ForwardOptions, transport: Transport) -> Option<String> {
    let problem = match transport {
        Transport::Udp => "forwards connections only; use copy for datagrams",
        Transport::Tcp if options.stripes > 1 => "passes streams on as they are; use copy for stripes",
        Transport::Tcp => return None,
    };
    Some(problem.into())
}
