//! What the worker says, and what follows from it. The protocol is in docs/warm-workers.md.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::WorkerShim;
use super::attempt::{Current, Fault};
use super::ending::failed;
use crate::local::process::tick;
use crate::record::Outcome;

/// A worker that closes its socket may be about to end: its end says more.
const LAST_WORD: Duration = Duration::from_secs(1);

impl WorkerShim {
    pub(super) fn hear_worker(&mut self) -> io::Result<()> {
        let Some(peer) = &mut self.peer else {
            return Ok(());
        };
        peer.flush();
        let heard = peer.hear();
        self.last_heard = tick();
        for line in heard.lines {
            self.obey(&line)?;
        }
        if let Some(fault) = heard.fault {
            self.peer = None;
            self.blame(format!("the worker {fault}"), !heard.closed);
        }
        Ok(())
    }

    /// Its end may come next; if it doesn't, it is made to. The first fault counts: others may follow from it.
    fn blame(&mut self, sentence: String, says_all: bool) {
        match &mut self.current {
            Some(current) if current.fault.is_some() => {}
            Some(current) => {
                current.fault = Some(Fault {
                    sentence,
                    says_all,
                    deadline: tick() + LAST_WORD,
                    told: false,
                });
            }
            None if self.leaving.is_none() => self.leaving = Some(tick() + LAST_WORD),
            None => {}
        }
    }

    fn obey(&mut self, line: &Value) -> io::Result<()> {
        let text = |key: &str| line.get(key).and_then(Value::as_str);
        let kind = text("type").unwrap_or_default();
        if kind == "hello" {
            self.greet(line);
            return Ok(());
        }
        if kind == "pong" {
            self.pinged = None;
            return Ok(());
        }
        // Late words about a job that is over are nobody's, above all not the next one's.
        let is_meant = |current: &&mut Current| {
            let id = current.message.place.id.job.to_string();
            current.sent && text("job").is_none_or(|job| job == id)
        };
        let Some(current) = self.current.as_mut().filter(is_meant) else {
            return Ok(());
        };
        match kind {
            "progress" => current.progress.note(&current.message.place.folder, line),
            "log" => {
                let added = text("text").unwrap_or_default().as_bytes();
                self.logs.add(text("stream") == Some("stderr"), added);
            }
            "result" => current.results.extend(text("file").map(str::to_owned)),
            "done" => return self.done(line.get("result")),
            "fail" => {
                let message = text("message").unwrap_or("the worker gave no reason");
                return self.finish(failed(message));
            }
            "cancelled" => {
                let message = "the worker says that it was cancelled, which nobody had asked for";
                return self.finish(failed(message));
            }
            _ => {}
        }
        Ok(())
    }

    fn greet(&mut self, line: &Value) {
        let protocol = line.get("protocol").and_then(Value::as_u64);
        if protocol != Some(1) {
            self.blame(
                "the worker speaks no version of the protocol that is known here (1)".to_owned(),
                true,
            );
            return;
        }
        self.ready = true;
        let version = line.get("version").and_then(Value::as_str);
        self.version = self.version.take().or_else(|| version.map(str::to_owned));
        self.give();
    }

    fn done(&mut self, result: Option<&Value>) -> io::Result<()> {
        let Some(current) = &self.current else {
            return Ok(());
        };
        let output = current.message.place.folder.join("output");
        let is_there = |file: &String| is_inside(file) && output.join(file).is_file();
        let missing = current.results.iter().find(|file| !is_there(file));
        if let Some(file) = missing {
            let message = format!(
                "the worker names a result `{file}` that is not in the job's output folder"
            );
            return self.finish(failed(&message));
        }
        if let Some(result) = result.filter(|result| !result.is_null()) {
            let written = serde_json::to_vec_pretty(result)
                .map_err(io::Error::from)
                .and_then(|text| fs::write(output.join("result.json"), text));
            if let Err(error) = written {
                return self.finish(failed(&format!(
                    "`result.json` could not be written: {error}"
                )));
            }
        }
        self.finish(Outcome::Exit { code: 0 })
    }
}

fn is_inside(file: &str) -> bool {
    let mut parts = Path::new(file).components().peekable();
    parts.peek().is_some() && parts.all(|part| matches!(part, std::path::Component::Normal(_)))
}
