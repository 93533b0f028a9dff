//! The HTTP client: asks one server, and tells apart what can go wrong on the way.

mod error;
mod follow;
mod params;
mod patience;
mod wire;

use std::time::Duration;

use reqwest::header::{HeaderMap, RANGE, SERVER};
use reqwest::{Method, RequestBuilder, Response, Url};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

pub(crate) use error::{ClientError, Result};
pub(crate) use follow::until_end;
pub(crate) use params::{Given, Param, fresh_key};
pub(crate) use patience::Patience;
#[cfg(test)]
pub(crate) use wire::tests;
pub(crate) use wire::{
    FileEntry, FileList, JobList, JobView, JobWords, ParamProblem, Problem, QueueView, Seen,
    ToolList, ToolReload, ToolView, UsageView, WireState,
};

/// Answers that are small and not waited for come within this, or the server is as good as lost.
const PROMPT: Duration = Duration::from_secs(30);

/// What to submit, apart from the parameters' values.
#[derive(Clone, Debug, Default)]
pub(crate) struct Submission {
    /// The tool's name.
    pub(crate) tool: String,
    /// Its parameters.
    pub(crate) params: Vec<Param>,
    /// Options as query pairs: `name`, `priority`, `tag`, `after`.
    pub(crate) options: Vec<(String, String)>,
    /// The `Idempotency-Key`.
    pub(crate) key: Option<String>,
}

/// One server.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    http: reqwest::Client,
    base: Url,
}

impl Client {
    /// A client of the server at this address; nothing is asked yet.
    pub(crate) fn new(server: &str) -> Result<Self> {
        let bad = || ClientError::BadAddress {
            address: server.to_owned(),
        };
        let mut base = Url::parse(server).map_err(|_| bad())?;
        if base.scheme() != "http" || base.host_str().is_none() {
            return Err(bad());
        }
        if !base.path().ends_with('/') {
            base.set_path(&format!("{}/", base.path()));
        }
        // A proxy from the environment must not come between this machine and itself.
        let local = base
            .host_str()
            .is_some_and(|host| host == "localhost" || host == "[::1]" || host.starts_with("127."));
        let builder = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(5))
            .user_agent(concat!("onelane-cli/", env!("CARGO_PKG_VERSION")));
        let builder = if local { builder.no_proxy() } else { builder };
        Ok(Self {
            http: builder.build().map_err(|source| ClientError::Lost {
                url: base.to_string(),
                source,
            })?,
            base,
        })
    }

    /// The server's address.
    pub(crate) fn address(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    /// Submits a job; with a key, as often as it takes.
    pub(crate) async fn submit(&self, submission: &Submission) -> Result<Seen<JobView>> {
        let mut request = self
            .request(
                Method::POST,
                &["api", "v1", "tools", &submission.tool, "jobs"],
            )
            .query(&submission.options);
        if let Some(key) = &submission.key {
            request = request.header("idempotency-key", key);
        }
        let request = if submission.params.is_empty() {
            request.json(&json!({}))
        } else {
            request.multipart(params::form(&submission.params).await?)
        };
        self.read(request).await
    }

    /// One job, by id, unique suffix or `last`.
    pub(crate) async fn job(&self, id: &str) -> Result<Seen<JobView>> {
        self.read(
            self.request(Method::GET, &["api", "v1", "jobs", id])
                .timeout(PROMPT),
        )
        .await
    }

    /// One job, once it has ended or these seconds are over.
    pub(crate) async fn job_within(&self, id: &str, seconds: u64) -> Result<Seen<JobView>> {
        let request = self
            .request(Method::GET, &["api", "v1", "jobs", id])
            .query(&[("wait", seconds)]);
        self.read(request.timeout(PROMPT + Duration::from_secs(seconds)))
            .await
    }

    /// A page of jobs.
    pub(crate) async fn jobs(&self, filter: &[(String, String)]) -> Result<Seen<JobList>> {
        self.read(
            self.request(Method::GET, &["api", "v1", "jobs"])
                .query(filter)
                .timeout(PROMPT),
        )
        .await
    }

    /// Cancels a job; the answer is the job, ended or not.
    pub(crate) async fn cancel(&self, id: &str) -> Result<Seen<JobView>> {
        self.read(
            self.request(Method::POST, &["api", "v1", "jobs", id, "cancel"])
                .timeout(PROMPT),
        )
        .await
    }

    /// Deletes a job, which may be cancelled for that.
    pub(crate) async fn delete(&self, id: &str, cancel: bool) -> Result<()> {
        let request = self.request(Method::DELETE, &["api", "v1", "jobs", id]);
        self.send(request.query(&[("cancel", cancel)])).await?;
        Ok(())
    }

    /// The queue.
    pub(crate) async fn queue(&self) -> Result<Seen<QueueView>> {
        self.read(
            self.request(Method::GET, &["api", "v1", "queue"])
                .timeout(PROMPT),
        )
        .await
    }

    /// `pause` or `resume`.
    pub(crate) async fn queue_order(&self, order: &str) -> Result<()> {
        self.send(
            self.request(Method::POST, &["api", "v1", "queue", order])
                .timeout(PROMPT),
        )
        .await
        .map(drop)
    }

    /// All tools as the server describes them.
    pub(crate) async fn tools(&self) -> Result<Seen<ToolList>> {
        self.read(
            self.request(Method::GET, &["api", "v1", "tools"])
                .timeout(PROMPT),
        )
        .await
    }

    /// One tool with the schema of its parameters.
    pub(crate) async fn tool(&self, name: &str) -> Result<Seen<ToolView>> {
        self.read(
            self.request(Method::GET, &["api", "v1", "tools", name])
                .timeout(PROMPT),
        )
        .await
    }

    /// Has the server read its tools file again.
    pub(crate) async fn reload_tools(&self) -> Result<Seen<ToolReload>> {
        self.read(
            self.request(Method::POST, &["api", "v1", "tools", "reload"])
                .timeout(PROMPT),
        )
        .await
    }

    /// What results a job has.
    pub(crate) async fn files(&self, id: &str) -> Result<Seen<FileList>> {
        self.read(
            self.request(Method::GET, &["api", "v1", "jobs", id, "files"])
                .timeout(PROMPT),
        )
        .await
    }

    /// One result, as a stream.
    pub(crate) async fn file(&self, id: &str, path: &str) -> Result<Response> {
        let mut segments = vec!["api", "v1", "jobs", id, "files"];
        segments.extend(path.split('/'));
        self.send(self.request(Method::GET, &segments)).await
    }

    /// A log, as a stream; `follow` goes on until the job ends.
    pub(crate) async fn log(&self, id: &str, stream: &str, follow: bool) -> Result<Response> {
        let request = self.request(Method::GET, &["api", "v1", "jobs", id, "logs", stream]);
        self.send(if follow {
            request.query(&[("follow", "true")])
        } else {
            request
        })
        .await
    }

    /// The last bytes of a log.
    pub(crate) async fn log_end(&self, id: &str, stream: &str, bytes: u64) -> Result<String> {
        let request = self.request(Method::GET, &["api", "v1", "jobs", id, "logs", stream]);
        let answer = self
            .send(
                request
                    .header(RANGE, format!("bytes=-{bytes}"))
                    .timeout(PROMPT),
            )
            .await?;
        let bytes = answer.bytes().await.map_err(|source| self.lost(source))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The answer of `/backlog`, as the starting point gave it.
    pub(crate) async fn backlog(&self) -> Result<Value> {
        self.read_value(self.request(Method::GET, &["backlog"]).timeout(PROMPT))
            .await
    }

    /// Whether a ready Onelane answers, and what it calls itself.
    pub(crate) async fn ready(&self) -> Result<String> {
        let answer = self
            .send(self.request(Method::GET, &["readyz"]).timeout(PROMPT))
            .await?;
        match signature(answer.headers()) {
            Some(name) => Ok(name.to_owned()),
            None => Err(self.not_onelane()),
        }
    }

    fn request(&self, method: Method, segments: &[&str]) -> RequestBuilder {
        let mut url = self.base.clone();
        // Segments are encoded one by one, so that no id or file name can climb out of its place.
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        self.http.request(method, url)
    }

    async fn read<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<Seen<T>> {
        let answer = self.send(request).await?;
        let name = signature(answer.headers()).map(str::to_owned);
        let raw = self.json(answer).await?;
        // An Onelane whose words we don't know is still an Onelane.
        let stranger = |source| match name {
            Some(name) => ClientError::OtherVersion {
                url: self.address().to_owned(),
                name,
                source,
            },
            None => self.not_onelane(),
        };
        let view = T::deserialize(&raw).map_err(stranger)?;
        Ok(Seen { view, raw })
    }

    async fn read_value(&self, request: RequestBuilder) -> Result<Value> {
        self.json(self.send(request).await?).await
    }

    async fn json(&self, answer: Response) -> Result<Value> {
        let bytes = answer.bytes().await.map_err(|source| self.lost(source))?;
        serde_json::from_slice(&bytes).map_err(|_| self.not_onelane())
    }

    /// Sends, and makes an error of every answer that is none of ours or no success.
    async fn send(&self, request: RequestBuilder) -> Result<Response> {
        let answer = request.send().await.map_err(|source| self.lost(source))?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        let status = answer.status().as_u16();
        let retry_after = answer
            .headers()
            .get("retry-after")
            .and_then(|value| value.to_str().ok()?.parse().ok())
            .map(Duration::from_secs);
        let signed = signature(answer.headers()).is_some();
        let bytes = answer.bytes().await.map_err(|source| self.lost(source))?;
        match serde_json::from_slice::<Problem>(&bytes) {
            Ok(problem) => Err(ClientError::Refused {
                status,
                problem: Box::new(problem),
                retry_after,
            }),
            Err(_) if signed => Err(ClientError::Refused {
                status,
                problem: Box::new(wire::bare_problem(status)),
                retry_after,
            }),
            Err(_) => Err(self.not_onelane()),
        }
    }

    fn lost(&self, source: reqwest::Error) -> ClientError {
        let url = self.address().to_owned();
        if source.is_connect() {
            ClientError::NoServer { url }
        } else if error::speaks_no_http(&source) {
            ClientError::NotOnelane { url }
        } else {
            ClientError::Lost { url, source }
        }
    }

    fn not_onelane(&self) -> ClientError {
        ClientError::NotOnelane {
            url: self.address().to_owned(),
        }
    }
}

/// Our name in the `Server` header, which a proxy may have taken away.
fn signature(headers: &HeaderMap) -> Option<&str> {
    headers
        .get(SERVER)?
        .to_str()
        .ok()
        .filter(|name| name.starts_with("onelane/"))
}
