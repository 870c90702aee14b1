//! The threads of a worker that runs several shared tasks at a time.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};

use super::worker::Runner;
use crate::Task;
use crate::sync::{lock, wait};

/// Threads that run shared tasks in the order in which they come.
pub(super) struct Crew {
    queue: Arc<Queue>,
    threads: Vec<JoinHandle<()>>,
}

/// Holds no more than the executor lets its worker hold.
#[derive(Default)]
struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    tasks: VecDeque<Task>,
    closed: bool,
}

impl Crew {
    pub(super) fn start(threads: usize, runner: &Arc<Runner>) -> io::Result<Self> {
        let queue = Arc::new(Queue::default());
        let mut crew = Self { queue, threads: Vec::with_capacity(threads) };
        for index in 0..threads {
            let (queue, runner) = (Arc::clone(&crew.queue), Arc::clone(runner));
            let run = move || {
                while let Some(task) = queue.next(&runner) {
                    // When it rests is known only when it looks for the next.
                    runner.run(index, task, || false);
                }
            };
            crew.threads.push(thread::Builder::new().name(format!("psbench-task-{index}")).spawn(run)?);
        }
        Ok(crew)
    }

    pub(super) fn push(&self, task: Task) {
        lock(&self.queue.state).tasks.push_back(task);
        self.queue.changed.notify_one();
    }

    /// Waits for the tasks that run; leaves alone those that wait.
    pub(super) fn finish(self) {
        self.queue.close();
        for thread in self.threads {
            // Panics of the work are caught within.
            let _ = thread.join();
        }
    }
}

impl Queue {
    fn next(&self, runner: &Runner) -> Option<Task> {
        let mut state = lock(&self.state);
        let mut flushed = false;
        loop {
            if state.closed || runner.is_ending() {
                return None;
            }
            if let Some(task) = state.tasks.pop_front() {
                return Some(task);
            }
            if flushed {
                state = wait(&self.changed, state);
            } else {
                drop(state);
                runner.flush();
                flushed = true;
                state = lock(&self.state);
            }
        }
    }

    fn close(&self) {
        lock(&self.state).closed = true;
        self.changed.notify_all();
    }
}
