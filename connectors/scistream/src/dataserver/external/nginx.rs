//! nginx with its stream module: forwards in user space, one worker process for each core.

use std::fmt::Write as _;
use std::io;
use std::path::{Path as FsPath, PathBuf};

use futures_util::future::BoxFuture;

use super::program::{FIRST_FD, Prepared, Program, Ready, Workspace, find, first_of, how_to_get, listeners};
use super::{NEVER, write_private};
use crate::dataserver::DataServerType;
use crate::forward::{ForwardOptions, ForwardPlan, ReservedPort};
use crate::relay::Path;

const CONFIGURATION: &str = "nginx.conf";
/// Each way of a connection has one: more gains nothing, and a hundred connections have two hundred.
const BUFFER: usize = 256 << 10;
const LEAST_BUFFER: usize = 1 << 10;
/// Where distributions put the module, unless it is built in.
const MODULE: [&str; 3] = [
    "/usr/lib/nginx/modules/ngx_stream_module.so",
    "/usr/lib64/nginx/modules/ngx_stream_module.so",
    "/etc/nginx/modules/ngx_stream_module.so",
];

/// nginx.
pub(super) struct Nginx;

impl Program for Nginx {
    fn kind(&self) -> DataServerType {
        DataServerType::Nginx
    }

    fn find(&self) -> Result<PathBuf, String> {
        let path = find(&["nginx"], "nginx libnginx-mod-stream")?;
        let missing = || format!("nginx has no stream module; get it by: {}", how_to_get("libnginx-mod-stream"));
        first_of(&MODULE).map(|_| path).ok_or_else(missing)
    }

    fn refuses(&self, options: &ForwardOptions) -> Option<&'static str> {
        options.socket_buffer.map(|_| "can't size the buffers of its connections to targets; leave them to the kernel")
    }

    fn prepare<'a>(&'a self, plan: ForwardPlan, workspace: &'a Workspace) -> BoxFuture<'a, io::Result<Prepared>> {
        Box::pin(async move {
            let (ports, path) = Path::of(plan);
            let module = first_of(&MODULE).ok_or(io::ErrorKind::NotFound)?;
            let text = configuration(&module, &ports, &path);
            write_private(&workspace.directory.path().join(CONFIGURATION), &text)?;
            // How an nginx hands its listeners to the next one when it is upgraded.
            let inherited = (FIRST_FD..).take(ports.len()).map(|fd| format!("{fd};")).collect();
            Ok(Prepared {
                arguments: ["-p", ".", "-c", CONFIGURATION, "-e", "stderr"].map(str::to_owned).into(),
                environment: vec![("NGINX", inherited)],
                listeners: listeners(ports)?,
                held: Vec::new(),
                ready: Ready::Says("start worker process"),
                counters: None,
            })
        })
    }
}

/// Targets hold nothing but letters, digits, dots, hyphens, underscores and colons in brackets (`Target`), none of which nginx reads as
/// anything else.
fn configuration(module: &FsPath, ports: &[ReservedPort], path: &Path) -> String {
    let Path { targets, options: ForwardOptions { buffer_size, connect_timeout, idle_timeout, .. }, .. } = path;
    let buffer = (*buffer_size).clamp(LEAST_BUFFER, BUFFER);
    let connect = (*connect_timeout).min(NEVER).as_millis().max(1);
    let idle = idle_timeout.unwrap_or(NEVER).min(NEVER).as_millis().max(1);
    let mut text = format!(
        "load_module {};
daemon off;
pid nginx.pid;
error_log stderr notice;
worker_processes auto;
events {{
    worker_connections 16384;
}}
stream {{
    proxy_connect_timeout {connect}ms;
    proxy_timeout {idle}ms;
    proxy_buffer_size {buffer};
    proxy_half_close on;
    proxy_socket_keepalive on;
",
        module.display()
    );
    for (port, target) in ports.iter().zip(targets) {
        let _ = write!(
            text,
            "    server {{
        listen {} so_keepalive=on;
        proxy_pass {target};
    }}
",
            port.address()
        );
    }
    text.push_str("}\n");
    text
}
