//! How a job's way is shown: a bar on a terminal, plain lines elsewhere.

use std::io;

use indicatif::{ProgressBar, ProgressStyle};

use crate::client::JobView;
use crate::output::{Output, harmless};

/// Full length of a bar, in steps finer than a terminal's columns.
const STEPS: u64 = 1000;

/// Shows one job until it ends.
pub(crate) struct Meter {
    output: Output,
    bar: Option<ProgressBar>,
    last: String,
}

impl Meter {
    /// A bar or plain lines, whichever fits the terminal.
    pub(crate) fn new(output: Output) -> Self {
        let bar = output.bars.then(|| styled(ProgressBar::new(STEPS)));
        Self {
            output,
            bar,
            last: String::new(),
        }
    }

    /// Shows what is new.
    pub(crate) fn update(&mut self, job: &JobView) -> io::Result<()> {
        match &self.bar {
            Some(bar) => {
                bar.set_position(steps(job.fraction()));
                bar.set_message(describe(job));
                bar.tick();
                Ok(())
            }
            None => self.plain(job),
        }
    }

    /// Takes the bar away.
    pub(crate) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    /// A line when something a person would tell another has changed: state, place, another tenth of the way.
    fn plain(&mut self, job: &JobView) -> io::Result<()> {
        let tenth = steps(job.fraction()) / (STEPS / 10);
        let now = if job.state == "running" {
            format!("running {}%", tenth * 10)
        } else {
            describe(job)
        };
        if now != self.last {
            self.output.note(&format!("{} {now}", job.short_id()))?;
            self.last = now;
        }
        Ok(())
    }
}

/// The look of all bars.
pub(crate) fn styled(bar: ProgressBar) -> ProgressBar {
    let style = ProgressStyle::with_template("{elapsed:>5} [{bar:30}] {msg}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    bar.set_style(style.progress_chars("=> "));
    bar
}

/// A fraction as steps of a bar.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "clamped to 0..=STEPS"
)]
pub(crate) fn steps(fraction: f64) -> u64 {
    (fraction.clamp(0.0, 1.0) * STEPS as f64) as u64
}

/// A job's state in a few words.
pub(crate) fn describe(job: &JobView) -> String {
    let detail = match job.state.as_str() {
        "queued" => job
            .why
            .clone()
            .or_else(|| job.position.map(|before| format!("{before} before it"))),
        "running" => job
            .progress
            .as_ref()
            .and_then(|progress| progress.message.clone()),
        "failed" => job.failure.as_ref().map(|failure| failure.message.clone()),
        _ => None,
    };
    match detail.filter(|detail| !detail.is_empty()) {
        Some(detail) => format!("{}: {}", job.state, harmless(&detail)),
        None => job.state.clone(),
    }
}
