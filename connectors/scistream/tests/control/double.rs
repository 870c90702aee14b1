//! A double of the reference's control server, with what its clients have to live with: hello that overtakes its request fails, any
//! error is `UNKNOWN`, a shortage of ports gives a short list, sessions share one answer, and nothing is ever given back.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use scistream::proto::control_server::{Control, ControlServer};
use scistream::proto::{AppResponse, Hello, Release, Request, Response, UpdateTargets};
use scistream::{UserClient, client::ClientOptions};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::time::sleep;
use tonic::{Code, Status};

use crate::support::{PATIENCE, own_address};

pub(crate) struct Double {
    pub(crate) address: SocketAddr,
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    ip: IpAddr,
    /// What it says of itself, instead of where it listens.
    told: String,
    /// Ports that are left.
    ports: Mutex<Vec<u16>>,
    sessions: Mutex<HashMap<String, Session>>,
    answer: Mutex<Response>,
    /// What was called, in order.
    pub(crate) calls: Mutex<Vec<String>>,
    /// How long a request takes to be known.
    slow: Duration,
}

#[derive(Clone)]
struct Session {
    count: usize,
    listeners: Vec<String>,
    greeted: Arc<Notify>,
}

impl Double {
    pub(crate) async fn start(ports: u16, slow: Duration, told: Option<&str>) -> Self {
        let ip = own_address();
        let inner = Arc::new(Inner {
            ip,
            told: told.map_or_else(|| ip.to_string(), Into::into),
            ports: Mutex::new((5100..5100 + ports).rev().collect()),
            sessions: Mutex::default(),
            answer: Mutex::default(),
            calls: Mutex::default(),
            slow,
        });
        let listener = TcpListener::bind((ip, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let incoming = futures_util::stream::unfold(listener, async |listener| {
            let accepted = listener.accept().await.map(|(connection, _)| connection);
            Some((accepted, listener))
        });
        let service = ControlServer::from_arc(Arc::clone(&inner));
        tokio::spawn(tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming));
        Self { address, inner }
    }

    pub(crate) async fn client(&self) -> UserClient {
        let options = ClientOptions { time_limit: PATIENCE, ..ClientOptions::default() };
        UserClient::connect(&self.address.to_string(), &options).await.unwrap()
    }

    pub(crate) fn calls(&self) -> Vec<String> {
        self.inner.calls.lock().unwrap().clone()
    }
}

impl Inner {
    fn called(&self, call: &str, role: &str) {
        self.calls.lock().unwrap().push(format!("{call} {role}").trim().into());
    }

    fn session(&self, rpc: &str, uid: &str) -> Result<Session, Status> {
        let problem = || {
            let told = format!("Exception calling application: {rpc} request invalid, entry not found for uid '{uid}'");
            Status::new(Code::Unknown, told)
        };
        self.sessions.lock().unwrap().get(uid).cloned().ok_or_else(problem)
    }
}

#[tonic::async_trait]
impl Control for Inner {
    async fn req(&self, request: tonic::Request<Request>) -> Result<tonic::Response<Response>, Status> {
        let Request { uid, role, num_conn, .. } = request.into_inner();
        sleep(self.slow).await;
        self.called("req", &role);
        let session = {
            let mut ports = self.ports.lock().unwrap();
            let left = ports.len().saturating_sub(num_conn as usize);
            let listeners =
                ports.split_off(left).into_iter().rev().map(|port| format!("{}:{port}", self.told)).collect();
            Session { count: num_conn as usize, listeners, greeted: Arc::default() }
        };
        let greeted = Arc::clone(&session.greeted);
        {
            let mut sessions = self.sessions.lock().unwrap();
            if sessions.contains_key(&uid) {
                return Err(Status::unknown("Exception calling application: Entry already found for uid"));
            }
            sessions.insert(uid, session);
        }
        greeted.notified().await;
        Ok(tonic::Response::new(self.answer.lock().unwrap().clone()))
    }

    async fn update(&self, request: tonic::Request<UpdateTargets>) -> Result<tonic::Response<Response>, Status> {
        let UpdateTargets { uid, remote_listeners, role } = request.into_inner();
        self.called("update", &role);
        let session = self.session("update", &uid)?;
        let targets: Vec<_> = remote_listeners.iter().cycle().take(session.count).cloned().collect();
        for (listener, target) in session.listeners.iter().zip(targets.clone()) {
            let port: u16 = listener.rsplit_once(':').unwrap().1.parse().unwrap();
            let listener = TcpListener::bind((self.ip, port)).await.unwrap();
            tokio::spawn(async move {
                while let Ok((mut client, _)) = listener.accept().await {
                    let target = target.clone();
                    tokio::spawn(async move {
                        let mut server = TcpStream::connect(target).await?;
                        tokio::io::copy_bidirectional(&mut client, &mut server).await
                    });
                }
            });
        }
        Ok(tonic::Response::new(Response {
            listeners: session.listeners,
            prod_listeners: targets,
            ..Response::default()
        }))
    }

    async fn release(&self, request: tonic::Request<Release>) -> Result<tonic::Response<Response>, Status> {
        let uid = request.into_inner().uid;
        self.called("release", "");
        self.session("release", &uid)?;
        self.sessions.lock().unwrap().remove(&uid);
        Ok(tonic::Response::new(Response::default()))
    }

    async fn hello(&self, request: tonic::Request<Hello>) -> Result<tonic::Response<AppResponse>, Status> {
        let Hello { uid, prod_listeners, role } = request.into_inner();
        let session = self.session("hello", &uid)?;
        self.called("hello", &role);
        let listeners = session.listeners.clone();
        let (answer, response) = if role == "PROD" {
            let message = "Sending Prod listeners...".into();
            (
                Response { listeners, prod_listeners, ..Response::default() },
                AppResponse { message, listeners: Vec::new() },
            )
        } else {
            let response = AppResponse { message: "Sending listeners...".into(), listeners: listeners.clone() };
            (Response { listeners, ..Response::default() }, response)
        };
        *self.answer.lock().unwrap() = answer;
        session.greeted.notify_one();
        Ok(tonic::Response::new(response))
    }
}
