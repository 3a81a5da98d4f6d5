//! The thread on which the state is used in production: one, because SQLite has one writer, and because memory that one
//! thread allocates and frees stays in one place.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

type Job = Box<dyn FnOnce() + Send>;

/// A thread that does one job after another. It ends when this is dropped, after the jobs that wait.
pub(super) struct Worker {
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    /// Starts it.
    pub(super) fn start() -> std::io::Result<Self> {
        let (jobs, waiting) = channel::<Job>();
        let thread = std::thread::Builder::new().name("store".to_owned()).spawn(move || {
            for job in waiting {
                // Whoever waits for a job that panicked is told by the answer that never comes; the others go on.
                if catch_unwind(AssertUnwindSafe(job)).is_err() {
                    tracing::error!("a job on the state panicked");
                }
            }
        })?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread) })
    }

    /// Does a job, and hands back what it gives. `None`: it never came to its end. The queue is as long as there are
    /// callers that wait.
    pub(super) async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let (answer, result) = tokio::sync::oneshot::channel();
        // Whoever asked may have gone: the job was done all the same.
        let job = Box::new(move || drop(answer.send(work())));
        self.jobs.as_ref()?.send(job).ok()?;
        result.await.ok()
    }
}

/// The file is closed in order: whoever drops the last handle may open it again.
impl Drop for Worker {
    fn drop(&mut self) {
        self.jobs = None;
        let Some(thread) = self.thread.take() else { return };
        if thread.thread().id() != std::thread::current().id() && thread.join().is_err() {
            tracing::error!("the state's thread panicked");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_job_that_panics_takes_nobody_with_it() {
        let worker = Worker::start().unwrap();
        assert_eq!(worker.run(|| 1).await, Some(1));
        assert_eq!(worker.run(|| -> u8 { panic!("on purpose") }).await, None);
        assert_eq!(worker.run(|| 2).await, Some(2));
    }
}
