//! `psbench s2uc`.

mod access;
mod error;
mod globus;
mod output;
mod path;
mod requests;
mod status;

use std::future::Future;

use clap::ArgAction;

pub(super) use self::access::{Side, Trust};
pub use self::error::S2ucError;
use self::globus::{CheckAuth, Login, Logout};
use self::path::{Connect, Disconnect};
use self::requests::{ConsRequest, HelloRequest, InboundRequest, OutboundRequest, ProdRequest, ReleaseRequest};
use self::status::StatusRequest;
use super::Ending;
use crate::signals::Interrupts;

/// What to ask of control servers.
#[derive(Debug, clap::Args)]
#[command(version = concat!("version ", env!("CARGO_PKG_VERSION")), display_name = "s2uc,", disable_version_flag = true)]
pub struct S2uc {
    /// Print version
    #[arg(short = 'v', long, action = ArgAction::Version)]
    version: Option<bool>,

    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Make a whole path, at the producer's and the consumer's control server, and print where to connect
    ///
    /// Both are psbench's, or either is the reference's. The session's key is random, and only the two gateways know it. With several
    /// --num-conn there are as many addresses, one in each line. psbench s2uc disconnect gives it all back.
    Connect(Connect),
    /// End a session at both control servers
    Disconnect(Disconnect),
    /// Ask for the producer's half of a path: ports at its gateway, which lead to the application
    #[command(alias = "inbound_request")]
    InboundRequest(InboundRequest),
    /// Ask for the consumer's half of a path: ports at its gateway, which lead to the producer's gateway
    #[command(alias = "outbound_request")]
    OutboundRequest(OutboundRequest),
    /// Ask for the producer's half of a path, and wait until the application says hello by itself
    #[command(alias = "prod_req")]
    ProdReq(ProdRequest),
    /// Ask for the consumer's half of a path, and wait until the application says hello by itself
    #[command(alias = "cons_req")]
    ConsReq(ConsRequest),
    /// Say hello for an application
    Hello(HelloRequest),
    /// End a session at one control server
    Release(ReleaseRequest),
    /// Print how sessions fare: those of whoever asks
    Status(StatusRequest),
    /// Say where a token of Globus Auth is to come from: psbench does not log in there
    Login(Login),
    /// Say that there is nothing to log out of: psbench keeps no token
    Logout(Logout),
    /// Print the token that requests show
    #[command(alias = "check_auth")]
    CheckAuth(CheckAuth),
}

impl S2uc {
    /// Asks.
    ///
    /// # Errors
    /// A control server refuses, or does not answer in time.
    pub fn run(self) -> Result<Ending, S2ucError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(S2ucError::System)?;
        runtime.block_on(async {
            match self.action {
                Action::Connect(connect) => connect.run().await,
                Action::Disconnect(disconnect) => disconnect.run().await,
                Action::InboundRequest(request) => request.run().await,
                Action::OutboundRequest(request) => request.run().await,
                Action::ProdReq(request) => request.run().await,
                Action::ConsReq(request) => request.run().await,
                Action::Hello(hello) => hello.run().await,
                Action::Release(release) => release.run().await,
                Action::Status(status) => status.run().await,
                Action::Login(login) => login.run(),
                Action::Logout(logout) => logout.run(),
                Action::CheckAuth(check) => check.run(),
            }
        })
    }
}

/// What `work` comes to; `None`: psbench was told to end before, and undid what there was.
async fn unless_interrupted<T>(
    work: impl Future<Output = Result<T, S2ucError>>,
    undo: impl Future<Output = ()>,
) -> Result<Option<T>, S2ucError> {
    let interrupted = Interrupts::of_this_process().token;
    tokio::select! {
        // What was refused just now is not undone: it may be there for another request.
        biased;
        made = work => return made.map(Some),
        () = interrupted.cancelled() => {}
    }
    undo.await;
    Ok(None)
}
