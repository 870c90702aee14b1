//! Workers that are placed by real launchers: OpenMPI's mpiexec, srun of a private Slurm cluster, ssh.

use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use crate::support::{
    Bench, Gateway, Redis, Slurm, Sshd, assert_balanced, assert_complete, command_line, descendants_of, finish,
    in_role, interrupt_twice, is_alive, problems, send_signal, strays, text, wait_until,
};
use serde_json::Value;

fn is_worker(pid: u32) -> bool {
    // Not the launcher, whose command line has the worker's in it.
    let line = command_line(pid);
    line.split_once(' ')
        .is_some_and(|(program, rest)| program.ends_with("psbench") && rest.starts_with("worker --connect"))
}

/// The workers among the descendants of a process.
fn workers_below(pid: u32) -> Vec<u32> {
    descendants_of(pid).into_iter().filter(|pid| is_worker(*pid)).collect()
}

/// Runs both methods to their ends with every byte checked.
#[track_caller]
fn both_methods(mut command: Command, bench: &Bench) -> Vec<Value> {
    let output = finish(command.spawn().unwrap());
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let trials = bench.results()["trials"].as_array().unwrap().clone();
    assert_eq!(trials.len(), 2);
    for trial in &trials {
        assert_complete(trial);
        assert_eq!((problems(trial), &trial["submit"]), (String::new(), &"pilot".into()));
        assert_eq!(in_role(trial, "generator").len(), 1);
        for process in trial["processes"].as_array().unwrap() {
            assert!(process["cpu_seconds"].as_f64().is_some_and(|seconds| seconds > 0.0), "{process}");
        }
    }
    trials
}

const SMALL: &str = "--data-size-bytes 100kB --task-count 200 --verify";

#[test]
fn mpiexec_places_ranks() {
    for more in ["", "--worker-tls"] {
        let bench = Bench::new();
        let trials = both_methods(bench.command(&format!("--executor mpi --max-workers 4 {SMALL} {more}")), &bench);
        assert_eq!(in_role(&trials[0], "worker").len(), 3);
        assert!(bench.results()["environment"]["engine"]["version"].as_str().unwrap().starts_with("mpiexec"));
    }
}

#[test]
fn a_rank_that_is_killed_takes_no_other_with_it() {
    let (server, bench) = (Redis::start(&[]), Bench::new());
    let options = format!(
        "--executor mpi --max-workers 4 --stream-method proxy --data-size-bytes 1kB --task-count 120 --task-sleep 0.1 --rate 25/s {}",
        server.as_connector()
    );
    let psbench = bench.command(&options).spawn().unwrap();
    wait_until("tasks run", || server.resolved() > 13);
    send_signal(workers_below(psbench.id())[0], "KILL");
    let output = finish(psbench);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let trial = bench.results()["trials"][0].clone();
    let items = &trial["items"];
    let count = |name: &str| items[name].as_u64().unwrap();
    assert_balanced(&trial);
    assert!(problems(&trial).contains("its connection ended"), "{}", problems(&trial));
    // Whether it computed or generated: the others went on with what there was.
    assert!(count("finished") > 10, "{items}");
}

#[test]
fn no_rank_outlives_psbench() {
    let bench = Bench::new();
    let options = "--executor mpi --max-workers 4 --stream-method default --data-size-bytes 1kB --task-count 1000 --task-sleep 0.1 --rate 20/s";
    let mut psbench = bench.command(options).spawn().unwrap();
    let pid = psbench.id();
    wait_until("the ranks are there", || workers_below(pid).len() == 4);
    let all = descendants_of(pid);
    psbench.kill().unwrap();
    psbench.wait().unwrap();
    wait_until("the end of all ranks and of mpiexec", || !all.iter().any(|pid| is_alive(*pid)));
}

#[test]
fn ranks_that_do_not_come_fail_the_trial_in_time() {
    let bench = Bench::new();
    // Ranks run this in place of psbench.
    let options = "--executor mpi --max-workers 3 --stream-method default --data-size-bytes 1kB --task-count 5 --worker-program /bin/true";
    let output = finish(bench.command(&format!("{options} --engine-timeout 20")).spawn().unwrap());
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).contains("0 of 3 workers became ready: mpiexec ended (exit code 0)"), "{}", text(&output));
}

#[test]
fn ssh_starts_workers_on_hosts() {
    let sshd = Sshd::start();
    let bench = Bench::new();
    let mut command = bench.command(&format!("--executor ssh --hosts 127.0.0.1 localhost --max-workers 4 {SMALL}"));
    command.args(sshd.options().iter().map(|option| format!("--launcher-option={option}")));
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut running = child.spawn().unwrap();
    let pid = running.id();
    // The token is for nobody else to see.
    let mut lines = Vec::new();
    while running.try_wait().unwrap().is_none() {
        lines.extend(descendants_of(pid).into_iter().map(command_line).filter(|line| line.starts_with("ssh")));
        thread::sleep(Duration::from_millis(5));
    }
    let output = running.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    bench.results()["trials"].as_array().unwrap().iter().for_each(assert_complete);
    let hex = |line: &String| line.split(|c: char| !c.is_ascii_hexdigit()).any(|word| word.len() >= 64);
    assert!(!lines.is_empty() && !lines.iter().any(hex), "{lines:?}");
}

/// Ranks that call the dispatcher back through these gateways.
fn through(bench: &Bench, gateways: &[Gateway; 2], options: &str) -> Command {
    let [producer, consumer] = gateways.each_ref().map(Gateway::address);
    bench.command(&format!(
        "--executor mpi --worker-via-scistream --scistream-producer-s2cs {producer} --scistream-consumer-s2cs {consumer} \
         --scistream-insecure {options}"
    ))
}

#[test]
fn ranks_connect_through_gateways() {
    ranks_through_gateways("");
}

fn ranks_through_gateways(more: &str) {
    let gateways = [Gateway::start(), Gateway::start()];
    let bench = Bench::new();
    // 20 MB in five seconds, of which a tenth has to be seen while they go through.
    let options = format!("--max-workers 4 {SMALL} --stream-method default --task-sleep 0.075 {more}");
    let psbench = through(&bench, &gateways, &options).spawn().unwrap();
    wait_until("items go through both gateways", || {
        gateways.iter().all(|gateway| gateway.bytes_to_clients() > 2_000_000)
    });
    let output = finish(psbench);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert_complete(&bench.results()["trials"][0]);
    assert!(gateways.iter().all(|gateway| gateway.sessions().is_empty()), "a path is left");
}

#[test]
fn a_dry_run_tells_what_workers_connect_through() {
    let gateways = [Gateway::start(), Gateway::start()];
    let output = finish(through(&Bench::new(), &gateways, "--dry-run").spawn().unwrap());
    assert!(output.status.success(), "{}", text(&output));
    let [producer, consumer] = gateways.each_ref().map(Gateway::address);
    let told = format!("(pilot mode; workers connect through the gateways of {producer} and {consumer})");
    assert!(text(&output).contains(&told), "{}", text(&output));
    assert!(gateways.iter().all(|gateway| gateway.sessions().is_empty()));
}

#[test]
fn workers_that_no_gateway_leads_anywhere_are_refused() {
    let mut gateways = [Gateway::start(), Gateway::start()];
    gateways[1].kill();
    let address = gateways[1].address().to_owned();
    let output = finish(through(&Bench::new(), &gateways, SMALL).spawn().unwrap());
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    let said = text(&output);
    assert!(said.starts_with("error: --worker-via-scistream: no path through gateways leads to 127.0.0.1:"), "{said}");
    assert!(said.contains(&address) && said.lines().count() == 1, "{said}");
}

/// What takes long, or is held in full elsewhere.
mod slow {
    use super::*;

    #[test]
    fn ranks_connect_through_gateways_by_tls() {
        ranks_through_gateways("--worker-tls");
    }

    #[test]
    fn srun_places_tasks_on_the_nodes_of_a_cluster() {
        let slurm = Slurm::start();
        let bench = Bench::new();
        let mut command = bench.command(&format!("--executor slurm --max-workers 8 {SMALL}"));
        command.env("SLURM_CONF", slurm.config());
        let trials = both_methods(command, &bench);
        assert_eq!(in_role(&trials[0], "worker").len(), 7);
        wait_until("no job is left", || slurm.jobs().iter().all(|job| !job.ends_with("RUNNING")));
    }

    #[test]
    fn srun_places_tasks_within_an_allocation() {
        let slurm = Slurm::start();
        let bench = Bench::new();
        let psbench = bench.command(&format!("--executor slurm --max-workers 4 --generator local {SMALL}"));
        let mut command = slurm.command("salloc");
        command.args(["-n", "4", "--quiet"]).arg(psbench.get_program()).args(psbench.get_args());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let trials = both_methods(command, &bench);
        assert_eq!(in_role(&trials[0], "worker").len(), 4, "the generator is no task of the allocation");
    }

    #[test]
    fn no_job_outlives_psbench() {
        let slurm = Slurm::start();
        let bench = Bench::new();
        let options = "--executor slurm --max-workers 8 --stream-method default --data-size-bytes 1kB --task-count 1000 --task-sleep 0.1 --rate 20/s";
        let mut psbench = bench.command(options).env("SLURM_CONF", slurm.config()).spawn().unwrap();
        let directory = slurm.config().parent().unwrap().to_owned();
        let tasks = || strays(&directory).into_iter().filter(|pid| is_worker(*pid)).collect::<Vec<_>>();
        wait_until("the tasks are there", || tasks().len() == 8);
        psbench.kill().unwrap();
        psbench.wait().unwrap();
        wait_until("the end of all tasks", || tasks().is_empty());
        wait_until("the end of the job", || slurm.jobs().iter().all(|job| !job.ends_with("RUNNING")));
    }

    #[test]
    fn a_cluster_without_room_fails_the_trial_in_time() {
        let slurm = Slurm::start();
        let bench = Bench::new();
        // Two nodes of four places each.
        let options = "--executor slurm --max-workers 9 --stream-method default --data-size-bytes 1kB --task-count 5 --engine-timeout 4";
        let output = finish(bench.command(options).env("SLURM_CONF", slurm.config()).spawn().unwrap());
        assert_eq!(output.status.code(), Some(1));
        assert!(text(&output).contains("0 of 9 workers became ready"), "{}", text(&output));
        wait_until("no job is left", || {
            slurm.jobs().iter().all(|job| !job.ends_with("RUNNING") && !job.ends_with("PENDING"))
        });
    }

    #[test]
    fn a_lost_gateway_loses_its_workers_by_name() {
        let mut gateways = [Gateway::start(), Gateway::start()];
        let bench = Bench::new();
        let options = "--max-workers 3 --generator local --stream-method default --data-size-bytes 1kB --task-count 1000 --rate 50/s --task-sleep 0.02";
        let psbench = through(&bench, &gateways, options).spawn().unwrap();
        wait_until("items go through", || gateways[1].bytes_to_clients() > 20_000);
        gateways[1].kill();
        let output = finish(psbench);
        assert_eq!(output.status.code(), Some(1), "{}", text(&output));
        let trial = bench.results()["trials"][0].clone();
        assert_balanced(&trial);
        assert!(problems(&trial).contains("its connection ended"), "{}", problems(&trial));
        assert!(gateways[0].sessions().is_empty(), "the other gateway's half is left");
    }

    #[test]
    fn a_dispatcher_that_leaves_at_once_gives_the_path_back() {
        let gateways = [Gateway::start(), Gateway::start()];
        let bench = Bench::new();
        let options = "--max-workers 3 --stream-method default --data-size-bytes 1kB --task-count 1000 --task-sleep 3600 --rate max";
        let psbench = through(&bench, &gateways, options).spawn().unwrap();
        let pid = psbench.id();
        wait_until("the ranks are there", || workers_below(pid).len() == 3);
        interrupt_twice(&psbench, &bench);
        assert_eq!(finish(psbench).status.code(), Some(130));
        assert!(gateways.iter().all(|gateway| gateway.sessions().is_empty()), "a path is left");
    }
}
