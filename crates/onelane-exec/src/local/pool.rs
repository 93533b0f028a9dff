//! The warm workers of this server: which there are, which of them has a job, and when an idle one goes.
//!
//! A worker's life is its shim's connection: when that is closed the worker is gone. An attempt's end is never taken
//! from here: its lock and its folder tell it, as of any other attempt.

use std::collections::{HashMap, HashSet};
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use onelane_core::{Capacity, Timestamp};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::{mpsc, oneshot, watch};

use super::process::tick;
use super::worker::CONTROL;
use crate::record::{FromWorker, ToWorker};
use crate::{AttemptId, WorkerSpec};

/// A worker that ended sooner is not started again at once.
const SOON: Duration = Duration::from_mins(1);
/// A shim answers a connection within this time, or it hangs.
const FIRST_WORD: Duration = Duration::from_secs(5);
/// A server that ends waits so long for its workers.
const LAST_WAIT: Duration = Duration::from_secs(15);
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_mins(1);

/// What a worker does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Doing {
    /// Nothing, since then.
    Idle(Instant),
    /// This attempt.
    Busy(AttemptId),
    /// It was told to go.
    Leaving,
    /// Its shim is gone.
    Gone,
}

/// What a shim answers to an attempt.
#[derive(Debug)]
pub(crate) enum Answer {
    Started {
        started_at: Timestamp,
        tool_version: Option<String>,
    },
    Refused {
        message: String,
        os_error: Option<i32>,
        /// Another worker may take it.
        another: bool,
    },
}

/// One worker, as this server knows it.
#[derive(Debug)]
pub(crate) struct Worker {
    pub id: String,
    pub key: String,
    pub folder: PathBuf,
    takes: Capacity,
    grace: Duration,
    since: Instant,
    doing: watch::Sender<Doing>,
    to_shim: mpsc::UnboundedSender<ToWorker>,
    answer: Mutex<Option<oneshot::Sender<Answer>>>,
    /// This server has sent it away.
    dismissed: AtomicBool,
    /// Somebody waits for the end of its idle time.
    timed: AtomicBool,
}

impl Worker {
    /// Gives it an attempt; nothing when it is gone without an answer.
    pub(crate) async fn run(&self, message: ToWorker) -> Option<Answer> {
        let (sender, receiver) = oneshot::channel();
        *lock(&self.answer) = Some(sender);
        if *self.doing.borrow() == Doing::Gone || self.to_shim.send(message).is_err() {
            return None;
        }
        receiver.await.ok()
    }

    /// It starts, though it has no job.
    pub(crate) fn warm_up(&self) {
        // One whose shim is gone says so by that.
        self.to_shim.send(ToWorker::Warm).ok();
    }

    /// Asks it to go, when its job is over. True when it has none, and goes now.
    pub(crate) fn dismiss(&self) -> bool {
        self.dismissed.store(true, Ordering::Relaxed);
        let mut goes = false;
        self.doing.send_if_modified(|doing| {
            let idle = matches!(doing, Doing::Idle(_));
            if idle {
                *doing = Doing::Leaving;
            }
            goes = !matches!(doing, Doing::Busy(_));
            idle
        });
        // A shim that is gone needs no word.
        self.to_shim.send(ToWorker::End).ok();
        goes
    }

    pub(crate) async fn until_gone(&self) {
        // An error means that the sender, and with it the worker, is gone.
        let mut doing = self.doing.subscribe();
        doing.wait_for(|doing| *doing == Doing::Gone).await.ok();
    }

    fn reply(&self, answer: Answer) {
        if let Some(sender) = lock(&self.answer).take() {
            // Whoever asked may have been given up on.
            sender.send(answer).ok();
        }
    }
}

/// All workers.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    workers: Mutex<HashMap<String, Arc<Worker>>>,
    /// The tools that have workers now.
    wanted: Mutex<HashMap<String, WorkerSpec>>,
    /// One start at a time: who waits for it may find what the other has started.
    pub starting: tokio::sync::Mutex<()>,
    /// Told when a worker that stays always is wanted again.
    pub missing: tokio::sync::Notify,
    /// How long to wait before a tool's worker is started again.
    pauses: Mutex<HashMap<String, Duration>>,
}

impl Pool {
    /// An idle worker of this tool, which has this attempt from now on: the one used last, as the others may go.
    pub(crate) fn take(&self, key: &str, id: AttemptId) -> Option<Arc<Worker>> {
        let workers = lock(&self.workers);
        let idle = workers.values().filter(|worker| worker.key == key);
        let idle = idle.filter_map(|worker| match *worker.doing.borrow() {
            Doing::Idle(since) => Some((since, worker)),
            _ => None,
        });
        let (_, worker) = idle.max_by_key(|(since, _)| *since)?;
        worker.doing.send_replace(Doing::Busy(id));
        Some(worker.clone())
    }

    /// Sends idle workers away, those unused for longest first, until the others hold no more memory and graphics
    /// processors than are spare; an idle worker of `key` is about to be used, and is counted already.
    ///
    /// # Errors
    /// A sentence, when one of them does not end: what it holds is not free.
    pub(crate) async fn make_room(&self, spare: Capacity, key: Option<&str>) -> Result<(), String> {
        // Looked at again each time: meanwhile another start may have taken one.
        while let Some(worker) = self.too_many(spare, key).pop() {
            if !worker.dismiss() {
                // It has a job again, and ends after that.
                continue;
            }
            let gone = tokio::time::timeout(worker.grace + LAST_WAIT, worker.until_gone());
            if gone.await.is_err() {
                return Err(format!(
                    "worker {} was told to end and does not, and its memory is needed",
                    worker.id
                ));
            }
        }
        Ok(())
    }

    fn too_many(&self, spare: Capacity, key: Option<&str>) -> Vec<Arc<Worker>> {
        let workers = lock(&self.workers);
        let mut idle: Vec<_> = workers
            .values()
            .filter_map(|worker| match *worker.doing.borrow() {
                Doing::Idle(since) => Some((since, worker.clone())),
                // It goes, but what it holds is not free yet.
                Doing::Leaving => Some((worker.since, worker.clone())),
                _ => None,
            })
            .collect();
        drop(workers);
        idle.sort_by_key(|(since, worker)| (std::cmp::Reverse(*since), worker.id.clone()));
        let is_used = |worker: &Worker| {
            Some(worker.key.as_str()) == key && matches!(*worker.doing.borrow(), Doing::Idle(_))
        };
        let used = idle.iter().position(|(_, worker)| is_used(worker));
        if let Some(used) = used {
            idle.remove(used);
        }
        let mut left = spare;
        idle.retain(|(_, worker)| {
            let fits =
                worker.takes.memory_bytes <= left.memory_bytes && worker.takes.gpus <= left.gpus;
            if fits {
                left = left.minus(&Capacity {
                    cpus: 0,
                    ..worker.takes
                });
            }
            !fits
        });
        idle.into_iter().map(|(_, worker)| worker).collect()
    }

    /// Waits until a worker's word about an attempt's end has come in, which was sent before its lock was free.
    pub(crate) async fn settle(&self, worker: &str, id: AttemptId) {
        let worker = lock(&self.workers).get(worker).cloned();
        if let Some(worker) = worker {
            let mut doing = worker.doing.subscribe();
            doing.wait_for(|doing| *doing != Doing::Busy(id)).await.ok();
        }
    }

    /// From now on only these tools have workers. Gives those that stay always and are not there.
    pub(crate) fn want(&self, specs: Vec<WorkerSpec>) -> Vec<WorkerSpec> {
        let wanted: HashMap<_, _> = specs
            .into_iter()
            .map(|spec| (spec.key.clone(), spec))
            .collect();
        let mut there = HashSet::new();
        for worker in lock(&self.workers).values() {
            if wanted.contains_key(&worker.key) {
                there.insert(worker.key.clone());
            } else {
                worker.dismiss();
            }
        }
        let missing = wanted
            .values()
            .filter(|spec| spec.keep_ms.is_none() && !there.contains(&spec.key));
        let missing = missing.cloned().collect();
        *lock(&self.wanted) = wanted;
        missing
    }

    /// Sends all of them away, and has those that stay always started again once they are gone.
    pub(crate) fn renew(self: &Arc<Self>) {
        for worker in lock(&self.workers).values() {
            worker.dismiss();
            let (pool, worker) = (self.clone(), worker.clone());
            tokio::spawn(async move {
                worker.until_gone().await;
                pool.missing.notify_one();
            });
        }
    }

    /// What idle workers hold.
    pub(crate) fn held(&self) -> Vec<Capacity> {
        let workers = lock(&self.workers);
        let idle = |worker: &&Arc<Worker>| !matches!(*worker.doing.borrow(), Doing::Busy(_));
        workers
            .values()
            .filter(idle)
            .map(|worker| worker.takes)
            .collect()
    }

    /// Sends every idle worker away, and waits for them.
    pub(crate) async fn end_idle(&self) {
        lock(&self.wanted).clear();
        let all: Vec<_> = lock(&self.workers).values().cloned().collect();
        let idle: Vec<_> = all
            .into_iter()
            .filter(|worker| !matches!(*worker.doing.borrow(), Doing::Busy(_)))
            .collect();
        for worker in &idle {
            worker.dismiss();
        }
        let all_gone = async {
            for worker in &idle {
                worker.until_gone().await;
            }
        };
        // A shim ends its worker by itself when its server is gone: nobody has to wait for one that does not die.
        tokio::time::timeout(LAST_WAIT, all_gone).await.ok();
    }

    /// Connects to a worker's shim. When that is gone, `gone` is told what the worker did last.
    pub(crate) async fn connect(
        self: &Arc<Self>,
        met: Met,
        gone: impl FnOnce(Arc<Worker>, Doing) + Send + 'static,
    ) -> io::Result<Arc<Worker>> {
        let stream = connect_in(&met.folder).await?;
        let (from, to) = stream.into_split();
        let (to_shim, outgoing) = mpsc::unbounded_channel();
        let worker = Arc::new(Worker {
            id: met.id,
            key: met.key,
            folder: met.folder,
            takes: met.takes,
            grace: met.grace,
            since: tick(),
            doing: watch::Sender::new(met.doing),
            to_shim,
            answer: Mutex::new(None),
            dismissed: AtomicBool::new(false),
            timed: AtomicBool::new(false),
        });
        lock(&self.workers).insert(worker.id.clone(), worker.clone());
        tokio::spawn(send_all(to, outgoing));
        let (pool, this) = (self.clone(), worker.clone());
        let mut lines = BufReader::new(from).lines();
        // The first word tells what an adopted one does. One whose shim says nothing is left to itself.
        match tokio::time::timeout(FIRST_WORD, lines.next_line()).await {
            Ok(Ok(Some(line))) => pool.heard(&this, &line),
            Ok(_) => {}
            Err(_) => {
                lock(&pool.workers).remove(&this.id);
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                pool.heard(&this, &line);
            }
            let last = this.doing.send_replace(Doing::Gone);
            drop(lock(&this.answer).take());
            lock(&pool.workers).remove(&this.id);
            gone(this, last);
        });
        Ok(worker)
    }

    fn heard(self: &Arc<Self>, worker: &Arc<Worker>, line: &str) {
        match serde_json::from_str(line) {
            Ok(FromWorker::State { running: Some(id) }) => {
                worker.doing.send_replace(Doing::Busy(id));
            }
            Ok(FromWorker::State { running: None }) => {
                if matches!(*worker.doing.borrow(), Doing::Idle(_)) {
                    self.rest(worker);
                }
            }
            Ok(FromWorker::Started {
                started_at,
                tool_version,
            }) => {
                worker.reply(Answer::Started {
                    started_at,
                    tool_version,
                });
            }
            Ok(FromWorker::Refused {
                message,
                os_error,
                another,
            }) => {
                if another {
                    worker.doing.send_replace(Doing::Leaving);
                } else {
                    // The attempt is at fault, or the machine.
                    self.rest(worker);
                }
                worker.reply(Answer::Refused {
                    message,
                    os_error,
                    another,
                });
            }
            Ok(FromWorker::Over { leaving: true }) => {
                worker.doing.send_replace(Doing::Leaving);
            }
            Ok(FromWorker::Over { leaving: false }) => self.rest(worker),
            Err(error) => {
                tracing::warn!(%error, worker = worker.id, "a worker's shim sent what can't be read");
            }
        }
    }

    /// It is idle from now on, and goes when nothing comes for long enough, or when its tool is gone.
    fn rest(self: &Arc<Self>, worker: &Arc<Worker>) {
        let now = tick();
        worker.doing.send_replace(Doing::Idle(now));
        let keep = lock(&self.wanted).get(&worker.key).map(|spec| spec.keep_ms);
        let Some(keep_ms) = keep else {
            worker.dismiss();
            return;
        };
        let Some(keep_ms) = keep_ms else { return };
        // One for each worker, and not for each of its jobs.
        if !worker.timed.swap(true, Ordering::Relaxed) {
            tokio::spawn(let_rest(worker.clone(), Duration::from_millis(keep_ms)));
        }
    }

    /// How long to wait until a worker that stays always and has ended by itself is started again; nothing for others,
    /// and for one that had to make room.
    pub(crate) fn pause_before_another(&self, worker: &Worker) -> Option<Duration> {
        let stays = |spec: &WorkerSpec| spec.keep_ms.is_none();
        if !lock(&self.wanted).get(&worker.key).is_some_and(stays)
            || worker.dismissed.load(Ordering::Relaxed)
        {
            return None;
        }
        let mut pauses = lock(&self.pauses);
        if worker.since.elapsed() >= SOON {
            pauses.remove(&worker.key);
            return Some(Duration::ZERO);
        }
        let pause = pauses.entry(worker.key.clone()).or_insert(FIRST_PAUSE);
        let now = *pause;
        *pause = (now * 2).min(LONGEST_PAUSE);
        Some(now)
    }

    /// Whether a tool has a worker.
    pub(crate) fn has(&self, key: &str) -> bool {
        lock(&self.workers).values().any(|worker| worker.key == key)
    }
}

/// Sends a worker away when it has been idle for so long.
async fn let_rest(worker: Arc<Worker>, keep: Duration) {
    let mut left = keep;
    loop {
        tokio::time::sleep(left).await;
        let doing = *worker.doing.borrow();
        match doing {
            Doing::Idle(since) if since.elapsed() >= keep => {
                worker.dismiss();
                return;
            }
            Doing::Idle(since) => left = keep.saturating_sub(since.elapsed()),
            Doing::Busy(_) => left = keep,
            Doing::Leaving | Doing::Gone => return,
        }
    }
}

/// A worker that a connection is wanted to.
pub(crate) struct Met {
    pub id: String,
    pub key: String,
    pub folder: PathBuf,
    pub takes: Capacity,
    /// How long it has to end when it is told to.
    pub grace: Duration,
    pub doing: Doing,
}

/// By way of the folder's descriptor: a socket's path may have no more than 107 bytes (unix(7)).
async fn connect_in(folder: &Path) -> io::Result<UnixStream> {
    let folder = std::fs::File::open(folder)?;
    UnixStream::connect(format!("/proc/self/fd/{}/{CONTROL}", folder.as_raw_fd())).await
}

async fn send_all(mut to: OwnedWriteHalf, mut messages: mpsc::UnboundedReceiver<ToWorker>) {
    while let Some(message) = messages.recv().await {
        let Ok(mut line) = serde_json::to_vec(&message) else {
            continue;
        };
        line.push(b'\n');
        // A shim that is gone is seen by the reading side.
        if to.write_all(&line).await.is_err() {
            break;
        }
    }
}

/// Nothing panics while it holds one of these.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}
