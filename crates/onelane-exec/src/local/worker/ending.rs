//! How an attempt in a worker ends: by the worker's word, or with the worker.

use std::fs;
use std::io;

use super::attempt::Current;
use super::{OWN_LOG_BYTES, WorkerShim};
use crate::fail_point;
use crate::local::process::{self, now, tick};
use crate::local::shim;
use crate::record::{FromWorker, GuardReport, Outcome, ToGuard, ToolUsage};

impl WorkerShim {
    /// The worker has ended the job, and lives on.
    pub(super) fn finish(&mut self, outcome: Outcome) -> io::Result<()> {
        let Some(mut current) = self.current.take() else {
            return Ok(());
        };
        fail_point("worker.after_done");
        let (cpu, peak) = process::used_by_family(self.record.guard.pid);
        let report = GuardReport {
            outcome,
            stopped: current.stop.as_ref().map(|stop| stop.reason),
            started_at: Some(current.started_at),
            finished_at: now(),
            usage: ToolUsage {
                wall_s: current.since.elapsed().as_secs_f64(),
                cpu_s: (cpu - current.cpu_before).max(0.0),
                memory_peak_bytes: peak,
            },
            leftovers_killed: 0,
            tool_version: self.version.clone(),
        };
        self.write_down(&mut current, report, "worker")?;
        // A kill that is on its way would meet the next job.
        let killed = current.stop.is_some_and(|stop| stop.killed) || current.fault.is_some();
        self.jobs += 1;
        self.idle_since = tick();
        self.unwanted |= killed || self.worker.max_jobs.is_some_and(|most| self.jobs >= most);
        self.tell(&FromWorker::Over {
            leaving: self.unwanted,
        });
        fail_point("worker.before_release");
        // Only now may somebody else look at the attempt.
        drop(current.lock);
        self.guard.send(&ToGuard::Over).ok();
        self.leave_if_done();
        Ok(())
    }

    fn write_down(
        &mut self,
        current: &mut Current,
        report: GuardReport,
        proof: &str,
    ) -> io::Result<()> {
        current.progress.write(&current.message.place.folder);
        let counts = self.logs.finish();
        self.notices.rm_watch(current.watch).ok();
        shim::write_exit(&current.message.place, report, counts, proof)?;
        let own = self.message.folder.join("stderr.log");
        if fs::metadata(&own).is_ok_and(|log| log.len() > OWN_LOG_BYTES) {
            fs::remove_file(own).ok();
        }
        self.logs.turn_to(&self.message.folder, OWN_LOG_BYTES)
    }

    /// The worker is gone with its whole tree.
    pub(super) fn wind_up(&mut self, report: GuardReport) -> io::Result<()> {
        fail_point("worker.after_report");
        if let Some(mut current) = self.current.take() {
            let report = self.last_report(&current, report);
            self.write_down(&mut current, report, "echild")?;
            self.tell(&FromWorker::Over { leaving: true });
        }
        self.clear_up_alone();
        Ok(())
    }

    /// What the worker's end means for the job that it had.
    fn last_report(&self, current: &Current, mut report: GuardReport) -> GuardReport {
        report.usage.wall_s = current.since.elapsed().as_secs_f64();
        report.usage.cpu_s = (report.usage.cpu_s - current.cpu_before).max(0.0);
        report.started_at = Some(current.started_at);
        report.tool_version.clone_from(&self.version);
        if let Some(stop) = &current.stop {
            report.stopped = Some(stop.reason);
            return report;
        }
        let fault = current.fault.as_ref();
        if let Some(fault) = fault.filter(|fault| fault.told || fault.says_all) {
            report.outcome = failed(&fault.sentence);
            report.stopped = None;
            return report;
        }
        if report.stopped.is_some() {
            return report;
        }
        if self.ready && !current.sent {
            let why = "its worker ended just before it had the job";
            report.outcome = Outcome::Interrupted {
                message: why.to_owned(),
            };
            return report;
        }
        report.outcome = match report.outcome {
            ended @ (Outcome::Exit { .. } | Outcome::Signal { .. }) if !current.sent => {
                Outcome::StartFailed {
                    message: format!(
                        "its worker {} before it was ready; its stderr may say why",
                        words_for(&ended)
                    ),
                }
            }
            Outcome::Exit { code: 0 } => {
                failed("its worker ended with exit code 0 while the job ran")
            }
            other => other,
        };
        report
    }
}

fn words_for(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Exit { code } => format!("ended with exit code {code}"),
        Outcome::Signal { signal } => format!("was ended by signal {signal}"),
        _ => "ended".to_owned(),
    }
}

pub(super) fn failed(message: &str) -> Outcome {
    Outcome::Failed {
        message: message.chars().take(2_000).collect(),
    }
}
