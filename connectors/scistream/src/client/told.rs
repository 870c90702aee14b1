//! What control servers tell programs that wait.

use super::held::wait_for;
use super::{ClientError, GatewayAccess};
use crate::proto::gateway::StatusReply;

impl GatewayAccess {
    /// How the sessions of whoever has this access fare, and what the control server uses. psbench's tell, the reference's does not. Waits,
    /// for two time limits at most.
    ///
    /// # Errors
    /// The control server can't be reached, refuses, or does not answer in time.
    pub fn status(&self) -> Result<StatusReply, ClientError> {
        self.ask_status(false)
    }

    /// The same; the peak of memory that it tells of begins anew.
    ///
    /// # Errors
    /// As [`status`](Self::status).
    pub fn status_anew(&self) -> Result<StatusReply, ClientError> {
        self.ask_status(true)
    }

    fn ask_status(&self, anew: bool) -> Result<StatusReply, ClientError> {
        let way = self.way()?;
        wait_for(async || {
            let client = way.connect().await?;
            let told = if anew { client.status_anew().await } else { client.status(None).await };
            told.map_err(|error| way.explain(error))
        })
    }
}
