//! The peers with nothing running, and beside a hog of every core; at a rate that they can keep up with.

use std::process::{Child, Command};
use std::time::Duration;

use super::{CONDITIONS, KINDS, Opened, Seen, WARM_UP, load_at};
use crate::Common;
use crate::load::Connection;
use crate::machine::run_first;
use crate::peers::{Peer, Running, Way};
use crate::server::fasta;

/// Requests a second, half of them submissions.
pub(super) const RATE: f64 = 100.0;
const REQUESTS: u64 = 1000;

/// A peer, running unless it gets a new queue for each stretch.
pub(super) struct Other {
    peer: Peer,
    kept: Option<Running>,
}

impl Other {
    pub(super) fn start(common: &Common, peer: Peer) -> anyhow::Result<Self> {
        let kept = peer.has_http().then(|| peer.start(common, false));
        Ok(Self {
            peer,
            kept: kept.transpose()?,
        })
    }

    /// One stretch, beside a hog or not.
    async fn measure(&self, common: &Common, first: bool, hogged: bool) -> anyhow::Result<Opened> {
        let afresh;
        let running = if let Some(running) = &self.kept {
            running
        } else {
            // What starts now must not run before all others.
            run_first(false);
            afresh = self.peer.start(common, false)?;
            afresh.hold_back().await?;
            run_first(first);
            &afresh
        };
        let submission = running.submission(&fasta(60));
        let mut connection = Connection::new(running.address());
        let answer = connection.call(&submission).await?;
        let question = running.question(&answer)?;
        let kinds =
            [submission, question].map(|call| vec![if first { call.ordinary() } else { call }]);
        let _hog = if hogged {
            Some(Hog::start(common, running, &mut connection).await?)
        } else {
            None
        };
        load_at(running.address(), kinds.into(), RATE, requests(common)).await
    }
}

fn requests(common: &Common) -> u64 {
    common.pick(REQUESTS, 40)
}

/// All of them in turn, round after round. `first`: the generator runs before all ordinary processes.
pub(super) async fn measure(
    common: &Common,
    others: &[Other],
    first: bool,
) -> anyhow::Result<Vec<Seen>> {
    let mut seen = Vec::new();
    for other in others {
        for (condition, meanwhile) in CONDITIONS.into_iter().take(2) {
            seen.push(Seen::new(other.peer.name, condition, meanwhile)?);
        }
    }
    for _ in 0..common.rounds() {
        for (other, seen) in others.iter().zip(seen.chunks_mut(2)) {
            seen[0].add(other.measure(common, first, false).await?)?;
            seen[1].add(other.measure(common, first, true).await?)?;
        }
    }
    Ok(seen)
}

/// A hog as a peer would start it: a plain process, or the starting point's own job.
struct Hog(Option<Child>);

impl Hog {
    async fn start(
        common: &Common,
        running: &Running,
        connection: &mut Connection,
    ) -> anyhow::Result<Self> {
        let own = std::env::current_exe()?;
        let mut child = None;
        if running.peer.way == Way::StartingPoint {
            // It answers nobody until its job is over: that must be, once the last request is due.
            let lasts = lasts(common).as_secs_f64().to_string();
            let own = own.to_string_lossy();
            let hog = ["timeout", &lasts, &own, "hog", "cpu"];
            // Its end is no failure, whatever ends it.
            let job = running.job(&[&["sh", "-c", "\"$@\"; true", "sh"], &hog[..]].concat());
            connection.call(&job).await?;
        } else {
            let mut command = Command::new("chrt");
            command.args(["-o", "0"]).arg(own).args(["hog", "cpu"]);
            child = Some(command.spawn()?);
        }
        tokio::time::sleep(WARM_UP).await;
        Ok(Self(child))
    }
}

/// The warm-up and a stretch.
#[expect(clippy::cast_precision_loss, reason = "a count of requests")]
fn lasts(common: &Common) -> Duration {
    WARM_UP + Duration::from_secs_f64(requests(common) as f64 / RATE)
}

impl Drop for Hog {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            child.kill().ok();
            child.wait().ok();
        }
    }
}

/// What a reader of the table must know.
pub(super) fn notes(others: &[Other]) -> Vec<String> {
    if others.is_empty() {
        return Vec::new();
    }
    vec![
        format!(
            "peers at {RATE} requests a second, without workers, beside the same hog as a plain process; a round of \
             {REQUESTS} ({KINDS:?} in turn)"
        ),
        "the starting point's server has the hog as its own job, as long as the stretch, and is asked for its backlog: it \
         answers when that is over"
            .to_owned(),
        "pueue and task-spooler have no HTTP: each request is a process of their own command, beside the hog like any other"
            .to_owned(),
    ]
}
