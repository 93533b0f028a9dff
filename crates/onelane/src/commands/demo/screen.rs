//! The backlog draining: two bars on a terminal, a line for each job elsewhere.

use std::io;

use indicatif::{MultiProgress, ProgressBar};

use crate::client::JobView;
use crate::output::Output;
use crate::progress::{describe, steps, styled};

/// What is seen while the jobs run.
pub(super) struct Screen {
    output: Output,
    bars: Option<Bars>,
}

struct Bars {
    all: MultiProgress,
    backlog: ProgressBar,
    job: ProgressBar,
}

impl Screen {
    /// An empty one.
    pub(super) fn new(output: Output) -> Self {
        Self {
            output,
            bars: output.bars.then(Bars::new),
        }
    }

    /// There are so many more jobs to come.
    pub(super) fn expect(&self, jobs: usize) {
        if let Some(bars) = &self.bars {
            bars.backlog.inc_length(jobs as u64);
        }
    }

    /// How things stand.
    pub(super) fn update(&self, job: &JobView, backlog: u64) {
        if let Some(bars) = &self.bars {
            bars.backlog.set_message(format!("backlog {backlog}"));
            bars.job.set_position(steps(job.fraction()));
            bars.job.set_message(format!(
                "{} {}",
                job.name.as_deref().unwrap_or_default(),
                describe(job)
            ));
            bars.job.tick();
        }
    }

    /// A job has ended.
    pub(super) fn ended(&self, job: &JobView, backlog: u64) -> io::Result<()> {
        let seconds = job
            .seconds()
            .map_or_else(|| "?".to_owned(), |seconds| format!("{seconds:.2}"));
        if let Some(bars) = &self.bars {
            bars.backlog.inc(1);
        }
        self.say(&format!(
            "  {:<10} {:>6} s  {} (backlog {backlog})",
            job.state,
            seconds,
            job.name.as_deref().unwrap_or_default()
        ))
    }

    /// A line above the bars.
    pub(super) fn say(&self, text: &str) -> io::Result<()> {
        match &self.bars {
            Some(bars) => bars.all.suspend(|| self.output.say(text)),
            None => self.output.say(text),
        }
    }

    /// Takes the bars away.
    pub(super) fn clear(&self) {
        if let Some(bars) = &self.bars {
            bars.job.finish_and_clear();
            bars.backlog.finish_and_clear();
        }
    }
}

impl Bars {
    fn new() -> Self {
        let all = MultiProgress::new();
        let backlog = styled(all.add(ProgressBar::new(0)));
        let job = styled(all.add(ProgressBar::new(steps(1.0))));
        Self { all, backlog, job }
    }
}
