//! All types of data server.

use std::path::PathBuf;
use std::sync::Arc;

use super::{
    Copy, DataServer, DataServerError, DataServerType, External, Quic, SOCKMAP_CONNECTIONS, Sockmap, Splice, Tls,
};
use crate::DataPlane;

/// What data servers need of their control server.
#[derive(Clone, Debug)]
pub struct DataServerSettings {
    /// The threads of those that forward in this process.
    pub plane: Arc<DataPlane>,
    /// Where those that are processes have their files; for this user alone.
    pub directory: PathBuf,
}

/// The data server of a type. It is there whether it can work on this host or not: see [`DataServer::check`].
///
/// # Errors
/// No such type in this build.
pub fn data_server(
    kind: DataServerType,
    settings: &DataServerSettings,
) -> Result<Arc<dyn DataServer>, DataServerError> {
    match kind {
        DataServerType::Copy => Ok(Arc::new(Copy::new(Arc::clone(&settings.plane)))),
        DataServerType::Sockmap => Ok(Arc::new(Sockmap::new(Arc::clone(&settings.plane), SOCKMAP_CONNECTIONS))),
        DataServerType::Haproxy => Ok(Arc::new(External::haproxy(settings.directory.clone()))),
        DataServerType::Stunnel => Ok(Arc::new(External::stunnel(settings.directory.clone()))),
        DataServerType::Nginx => Ok(Arc::new(External::nginx(settings.directory.clone()))),
        DataServerType::Quic => Ok(Arc::new(Quic::new(Arc::clone(&settings.plane)))),
        DataServerType::Splice => Ok(Arc::new(Splice::new(Arc::clone(&settings.plane)))),
        DataServerType::Tls => Ok(Arc::new(Tls::new(Arc::clone(&settings.plane)))),
    }
}
