//! Connectors at services that psbench does not start.

use psbench_connectors::{ConnectorConfig, endpoint};
use uuid::Uuid;

use super::{OptionError, StreamScalingOptions};

impl StreamScalingOptions {
    /// The endpoint that answers: its address is looked up here, once, so that all processes of a run use the same one.
    pub(super) fn endpoint(&self) -> Result<ConnectorConfig, OptionError> {
        const OPTION: &str = "--ps-endpoints";
        if self.ps_endpoints.is_empty() {
            return Err(OptionError::Missing { option: OPTION, needed_by: "--ps-connector endpoint" });
        }
        let not_an_id = "not a UUID; `proxystore-endpoint list` shows those of this host's endpoints";
        let ids =
            self.ps_endpoints.iter().map(|id| id.parse().map_err(|_| OptionError::invalid(OPTION, id, not_an_id)));
        let ids: Vec<Uuid> = ids.collect::<Result<_, _>>()?;
        let unusable = |problem: String| OptionError::invalid(OPTION, &self.ps_endpoints.join(" "), problem);
        let dir = endpoint::directory().ok_or_else(|| unusable("neither PROXYSTORE_HOME nor HOME is set".into()))?;
        endpoint::home(&ids, &dir).map_err(|error| unusable(error.to_string()))
    }
}
