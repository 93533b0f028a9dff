//! The load: a closed loop (each connection sends its next request when it has its answer) for throughput, and an open
//! one at a constant rate, whose latencies count from when a request was due (so that a server that stalls can't hide
//! the requests that it kept from being sent).

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use hdrhistogram::Histogram;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::process::Command;

/// Nothing is waited for longer.
const PATIENCE: Duration = Duration::from_mins(2);

/// One request, ready to be sent again and again.
#[derive(Clone, Debug)]
pub(crate) struct Shot {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) content_type: &'static str,
    pub(crate) body: Bytes,
}

impl Shot {
    pub(crate) fn get(path: impl Into<String>) -> Self {
        Self {
            method: Method::GET,
            path: path.into(),
            content_type: "",
            body: Bytes::new(),
        }
    }

    pub(crate) fn post(path: &str, content_type: &'static str, body: impl Into<Bytes>) -> Self {
        Self {
            method: Method::POST,
            path: path.to_owned(),
            content_type,
            body: body.into(),
        }
    }

    fn request(&self, host: &str) -> anyhow::Result<Request<Full<Bytes>>> {
        let mut request = Request::builder()
            .method(&self.method)
            .uri(&self.path)
            .header("host", host);
        if !self.content_type.is_empty() {
            request = request.header("content-type", self.content_type);
        }
        Ok(request.body(Full::new(self.body.clone()))?)
    }
}

/// A command that is a request: a user's own way to a program without HTTP.
#[derive(Clone, Debug)]
pub(crate) struct Errand {
    pub(crate) words: Vec<String>,
    pub(crate) settings: Vec<(&'static str, String)>,
    pub(crate) folder: PathBuf,
}

impl Errand {
    /// Gives what it prints.
    async fn run(&self) -> anyhow::Result<Bytes> {
        let [program, words @ ..] = &self.words[..] else {
            bail!("a command without a program");
        };
        let mut command = Command::new(program);
        command.args(words).current_dir(&self.folder);
        command.envs(self.settings.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let child = command.kill_on_drop(true).spawn()?;
        let done = tokio::time::timeout(PATIENCE, child.wait_with_output()).await;
        let done = done.with_context(|| format!("`{}` does not end", self.words.join(" ")))??;
        ensure!(
            done.status.success(),
            "`{}` ended with {}",
            self.words.join(" "),
            done.status
        );
        Ok(done.stdout.into())
    }
}

/// A request, whichever way it takes.
#[derive(Clone, Debug)]
pub(crate) enum Call {
    Http(Shot),
    Errand(Errand),
}

impl Call {
    /// An errand that runs like any other process, though whoever runs it goes before them.
    pub(crate) fn ordinary(mut self) -> Self {
        if let Self::Errand(errand) = &mut self {
            let ordinary = ["chrt", "-o", "0"].map(str::to_owned);
            errand.words.splice(0..0, ordinary);
        }
        self
    }
}

impl From<Shot> for Call {
    fn from(shot: Shot) -> Self {
        Self::Http(shot)
    }
}

/// A connection that is kept, and opened anew when the server has closed it.
pub(crate) struct Connection {
    address: String,
    sender: Option<SendRequest<Full<Bytes>>>,
}

impl Connection {
    pub(crate) fn new(address: &str) -> Self {
        Self {
            address: address.to_owned(),
            sender: None,
        }
    }

    async fn open(&self) -> anyhow::Result<SendRequest<Full<Bytes>>> {
        let stream = TcpStream::connect(&self.address)
            .await
            .with_context(|| format!("can't connect to {}", self.address))?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        // Its errors reach the sender.
        tokio::spawn(async move { connection.await.ok() });
        Ok(sender)
    }

    /// Sends a request and reads the whole answer.
    pub(crate) async fn send(&mut self, shot: &Shot) -> anyhow::Result<(StatusCode, Bytes)> {
        let sent = tokio::time::timeout(PATIENCE, self.send_now(shot)).await;
        let answer = sent.with_context(|| format!("no answer to {} {}", shot.method, shot.path));
        answer?
    }

    async fn send_now(&mut self, shot: &Shot) -> anyhow::Result<(StatusCode, Bytes)> {
        let kept = match self.sender.take() {
            Some(mut sender) => sender.ready().await.is_ok().then_some(sender),
            None => None,
        };
        let mut sender = match kept {
            Some(sender) => sender,
            None => self.open().await?,
        };
        let response = sender.send_request(shot.request(&self.address)?).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        self.sender = Some(sender);
        Ok((status, body))
    }

    /// Sends a request that must succeed, and hands on each part of its answer as it comes, until its end.
    pub(crate) async fn read(
        &mut self,
        shot: &Shot,
        mut each: impl FnMut(&Bytes),
    ) -> anyhow::Result<()> {
        let mut sender = self.open().await?;
        let response = sender.send_request(shot.request(&self.address)?).await?;
        ensure!(
            response.status().is_success(),
            "{}: {}",
            shot.path,
            response.status()
        );
        let mut body = response.into_body();
        while let Some(frame) = body.frame().await {
            if let Some(part) = frame?.data_ref() {
                each(part);
            }
        }
        Ok(())
    }

    /// Sends a request that must succeed.
    pub(crate) async fn must(&mut self, shot: &Shot) -> anyhow::Result<Bytes> {
        let (status, body) = self.send(shot).await?;
        ensure!(
            status.is_success(),
            "{} {}: {status} {}",
            shot.method,
            shot.path,
            String::from_utf8_lossy(&body[..body.len().min(500)])
        );
        Ok(body)
    }

    /// Makes a call that must succeed; an errand needs no connection.
    pub(crate) async fn call(&mut self, call: &Call) -> anyhow::Result<Bytes> {
        match call {
            Call::Http(shot) => self.must(shot).await,
            Call::Errand(errand) => errand.run().await,
        }
    }

    /// Sends a request that must succeed, and reads its JSON.
    pub(crate) async fn json(&mut self, shot: &Shot) -> anyhow::Result<Value> {
        let body = self.must(shot).await?;
        serde_json::from_slice(&body).with_context(|| format!("{} is no JSON", shot.path))
    }
}

/// What one stretch of load came to.
#[derive(Clone, Debug)]
pub(crate) struct Measured {
    /// Microseconds.
    pub(crate) latency: Histogram<u64>,
    /// Answers a second.
    pub(crate) rate: f64,
}

impl Measured {
    /// A quantile in milliseconds.
    pub(crate) fn quantile_ms(&self, quantile: f64) -> f64 {
        quantile_ms(&self.latency, quantile)
    }
}

/// A quantile in milliseconds.
pub(crate) fn quantile_ms(latency: &Histogram<u64>, quantile: f64) -> f64 {
    to_ms(latency.value_at_quantile(quantile))
}

#[expect(clippy::cast_precision_loss, reason = "microseconds of minutes")]
fn to_ms(micros: u64) -> f64 {
    micros as f64 / 1000.0
}

/// From a microsecond to ten minutes, to three digits.
pub(crate) fn histogram() -> anyhow::Result<Histogram<u64>> {
    Histogram::new_with_bounds(1, 600_000_000, 3).context("can't make a histogram")
}

pub(crate) fn record(latency: &mut Histogram<u64>, took: Duration) {
    latency.saturating_record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
}

/// The middle one, or the mean of the two in the middle.
pub(crate) fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    let middle = numbers.len() / 2;
    match numbers.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => numbers[middle],
        _ => f64::midpoint(numbers[middle - 1], numbers[middle]),
    }
}

/// A closed loop's plan: one call again and again.
pub(crate) struct Closed<'a> {
    pub(crate) address: &'a str,
    pub(crate) call: Call,
    pub(crate) connections: usize,
    pub(crate) lasts: Duration,
    /// It ends early after so many calls.
    pub(crate) most: u64,
}

/// Closed loop: so many connections for so long. Every answer must be a success.
pub(crate) async fn closed(plan: &Closed<'_>) -> anyhow::Result<Measured> {
    let mut open = Vec::new();
    for _ in 0..plan.connections {
        let mut connection = Connection::new(plan.address);
        connection.call(&plan.call).await?;
        open.push(connection);
    }
    let call = Arc::new(plan.call.clone());
    let (lasts, most, made) = (plan.lasts, plan.most, Arc::new(AtomicU64::new(0)));
    let begun = Instant::now();
    let clients = open.into_iter().map(|mut connection| {
        let (call, made) = (Arc::clone(&call), Arc::clone(&made));
        tokio::spawn(async move {
            let mut latency = histogram()?;
            while begun.elapsed() < lasts && made.fetch_add(1, Ordering::Relaxed) < most {
                let sent = Instant::now();
                connection.call(&call).await?;
                record(&mut latency, sent.elapsed());
            }
            anyhow::Ok(latency)
        })
    });
    let mut latency = histogram()?;
    for client in clients.collect::<Vec<_>>() {
        latency.add(client.await??)?;
    }
    #[expect(clippy::cast_precision_loss, reason = "counts of seconds")]
    let rate = latency.len() as f64 / begun.elapsed().as_secs_f64();
    Ok(Measured { latency, rate })
}

/// An open loop's plan: requests of several kinds in turn, at one constant rate.
pub(crate) struct Open<'a> {
    pub(crate) address: &'a str,
    /// Kinds take turns, and so do the requests of each.
    pub(crate) kinds: Vec<Vec<Call>>,
    pub(crate) rate: f64,
    pub(crate) requests: u64,
    /// Threads, each with one connection.
    pub(crate) clients: usize,
}

/// What an open loop saw: a histogram for each kind, and how late the requests left (the generator's own noise).
pub(crate) struct Opened {
    pub(crate) kinds: Vec<Histogram<u64>>,
    pub(crate) lateness: Histogram<u64>,
}

impl Opened {
    pub(crate) fn new(kinds: usize) -> anyhow::Result<Self> {
        Ok(Self {
            kinds: (0..kinds).map(|_| histogram()).collect::<Result<_, _>>()?,
            lateness: histogram()?,
        })
    }

    pub(crate) fn add(&mut self, other: &Self) -> anyhow::Result<()> {
        for (mine, theirs) in self.kinds.iter_mut().zip(&other.kinds) {
            mine.add(theirs)?;
        }
        self.lateness.add(&other.lateness)?;
        Ok(())
    }
}

/// Open loop. Each client is a thread of its own that sleeps until its next request is due: nothing but the kernel's
/// clock and its scheduler is between the plan and the socket.
pub(crate) fn open(plan: &Open<'_>) -> anyhow::Result<Opened> {
    let next = AtomicU64::new(0);
    let begun = Instant::now() + Duration::from_millis(100);
    let seen: Vec<anyhow::Result<Opened>> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..plan.clients)
            .map(|_| scope.spawn(|| client(plan, &next, begun)))
            .collect();
        let joined = clients.into_iter().map(std::thread::ScopedJoinHandle::join);
        joined
            .map(|result| result.unwrap_or_else(|_| bail!("a client has panicked")))
            .collect()
    });
    let mut all = Opened::new(plan.kinds.len())?;
    for one in seen {
        all.add(&one?)?;
    }
    Ok(all)
}

fn client(plan: &Open<'_>, next: &AtomicU64, begun: Instant) -> anyhow::Result<Opened> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let mut connection = Connection::new(plan.address);
    let mut seen = Opened::new(plan.kinds.len())?;
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= plan.requests {
            return Ok(seen);
        }
        #[expect(clippy::cast_precision_loss, reason = "counts of requests")]
        let due = begun + Duration::from_secs_f64(number as f64 / plan.rate);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        record(&mut seen.lateness, due.elapsed());
        let number = usize::try_from(number)?;
        let kind = number % plan.kinds.len();
        let calls = &plan.kinds[kind];
        let call = &calls[(number / plan.kinds.len()) % calls.len()];
        runtime.block_on(connection.call(call))?;
        record(&mut seen.kinds[kind], due.elapsed());
    }
}
