//! Where paths are: a network namespace, and processes in it.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

/// A network namespace with a default congestion control.
pub(crate) struct Scene {
    name: String,
    /// `None`: the benchmark's own.
    namespace: Option<String>,
}

impl Scene {
    /// The system's own, or one in which the congestion control of this name is the default.
    pub(crate) fn open(name: &str) -> Self {
        if name == "system" {
            return Self { name: name.into(), namespace: None };
        }
        let namespace = format!("paths-{name}-{}", std::process::id());
        run("ip", &["netns", "add", &namespace]);
        let scene = Self { name: name.into(), namespace: Some(namespace.clone()) };
        run("ip", &["-n", &namespace, "link", "set", "lo", "up"]);
        let setting = format!("net.ipv4.tcp_congestion_control={name}");
        run("ip", &["netns", "exec", &namespace, "sysctl", "-qw", &setting]);
        // Buffers that the system was given are not a new namespace's.
        for setting in ["net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem"] {
            let path = format!("/proc/sys/{}", setting.replace('.', "/"));
            let setting = format!("{setting}={}", fs::read_to_string(path).unwrap().trim());
            run("ip", &["netns", "exec", &namespace, "sysctl", "-qw", &setting]);
        }
        scene
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// A command whose process will be in it.
    pub(crate) fn command(&self, program: &str) -> Command {
        match &self.namespace {
            None => Command::new(program),
            Some(namespace) => {
                let mut command = Command::new("nsenter");
                command.arg(format!("--net=/run/netns/{namespace}")).arg(program);
                command
            }
        }
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        if let Some(namespace) = &self.namespace {
            run("ip", &["netns", "del", namespace]);
        }
    }
}

fn run(program: &str, arguments: &[&str]) {
    let status = Command::new(program).args(arguments).status().unwrap();
    assert!(status.success(), "{program} {arguments:?}: {status}");
}

/// A process of a path, which ends with this.
pub(crate) struct Process {
    child: Child,
    output: Option<BufReader<ChildStdout>>,
}

impl Process {
    /// One of the benchmark's own roles.
    pub(crate) fn role(scene: &Scene, arguments: &[&str]) -> Self {
        let own = std::env::current_exe().unwrap();
        let mut command = scene.command(own.to_str().expect("the benchmark's path is UTF-8"));
        command.args(arguments).stdout(Stdio::piped());
        Self::start(command)
    }

    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
        let output = child.stdout.take().map(BufReader::new);
        Self { child, output }
    }

    /// The next line of what it prints.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        if let Some(output) = &mut self.output {
            output.read_line(&mut line).unwrap();
        }
        assert!(!line.is_empty(), "a process of the path failed: see above");
        line.trim().into()
    }

    /// Processor time until now.
    pub(crate) fn cpu(&self) -> Duration {
        cpu_of(self.child.id())
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self) {
        let status = self.child.wait().unwrap();
        assert!(status.success(), "a process of the path failed: {status}");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Our own roles would end with their input; other programs don't.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Processor time of all threads of a process, as the scheduler counts it: to the nanosecond, where `stat` has hundredths of seconds.
pub(crate) fn cpu_of(process: u32) -> Duration {
    let threads = fs::read_dir(format!("/proc/{process}/task")).unwrap();
    // A thread may end in between.
    let times = threads.filter_map(|thread| fs::read_to_string(thread.ok()?.path().join("schedstat")).ok());
    times.map(|times| Duration::from_nanos(times.split(' ').next().unwrap().parse().unwrap())).sum()
}
