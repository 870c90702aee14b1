//! Carrying a connection whose ways are two [flows](Flow), one like the other.

use std::io;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::net::TcpStream;

use super::ahead::reach;
use super::connect::tune;
use super::deliver::conclude;
use super::end::ResetOnDrop;
use super::pump::{Flow, pump};
use super::{Activity, Carrier, Path, Toll};
use crate::forward::Way;

/// One way of a connection, before anything goes it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Course<'a> {
    pub(crate) path: &'a Path,
    pub(crate) activity: &'a Activity,
    pub(crate) way: Way,
    pub(crate) from: &'a TcpStream,
    pub(crate) to: &'a TcpStream,
}

impl<'a> Course<'a> {
    /// What it pays its session's rate by.
    pub(crate) fn toll(&self) -> Toll<'a> {
        Toll::new(self.path.rate.as_ref(), self.activity, self.way)
    }
}

/// Carries each way by a flow of one kind.
pub(crate) struct BothWays {
    pub(crate) path: Arc<Path>,
    /// What makes such a flow.
    pub(crate) flow: for<'a> fn(Course<'a>) -> Box<dyn Flow + Send + 'a>,
}

impl Carrier for BothWays {
    fn carry(self: Arc<Self>, client: TcpStream, lane: usize) -> BoxFuture<'static, io::Result<()>> {
        Box::pin(async move {
            let path = &*self.path;
            let client = ResetOnDrop::new(client);
            tune(path, &client)?;
            let target = ResetOnDrop::new(reach(path, lane).await?);
            let activity = Activity::default();
            let flow = |way, from, to| (self.flow)(Course { path, activity: &activity, way, from, to });
            let there = flow(Way::ToTarget, &client, &target);
            let back = flow(Way::ToClient, &target, &client);
            let carried = pump(path, &activity, [&client, &target], [there, back]).await;
            conclude(path, [client, target], carried).await
        })
    }
}
