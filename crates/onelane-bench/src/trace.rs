//! An attempt's steps, read off the system calls of a server and its shims (`strace -f -ttt -T -y`).

use std::collections::HashMap;

use anyhow::{Context, ensure};

use crate::load::median;

/// The calls that tell the steps apart; what is not among them is not slowed down.
pub(crate) const CALLS: &str = "trace=execve,fsync,fdatasync,rename,mkdir,exit_group";

/// One step of all attempts: medians.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) name: &'static str,
    pub(crate) ms: f64,
    pub(crate) syncs: f64,
}

const STEPS: [&str; 7] = [
    "after the last one's end: claim, and the way to its folder",
    "folders, inputs and lock",
    "the lock taken, shim.json",
    "the tool's program begins",
    "the tool itself",
    "proof of death, exit.json",
    "the end: its commit",
];

/// A call that is over: when, and its text.
#[derive(Debug)]
struct Call {
    pid: u32,
    at: f64,
    text: String,
}

impl Call {
    fn is_sync_of(&self, path: &str) -> bool {
        self.is_sync() && self.text.contains(path)
    }

    fn is_sync(&self) -> bool {
        self.text.starts_with("fsync(") || self.text.starts_with("fdatasync(")
    }
}

/// The steps of the attempts in a trace; the first and the last are left out.
pub(crate) fn steps(trace: &str) -> anyhow::Result<Vec<Step>> {
    let calls = calls(trace);
    let begins: Vec<usize> = calls
        .iter()
        .enumerate()
        .filter(|(_, call)| call.text.starts_with("mkdir(") && call.text.contains("/attempts/1\""))
        .map(|(place, _)| place)
        .collect();
    let mut found = Vec::new();
    for three in begins.windows(3) {
        // One that can't be made out is left out.
        found.extend(attempt(&calls, three));
    }
    ensure!(
        !found.is_empty(),
        "no attempt's steps can be told in the trace"
    );
    let medians = STEPS.iter().enumerate().map(|(number, name)| Step {
        name,
        ms: median(found.iter().map(|steps| steps[number].0).collect()),
        syncs: median(found.iter().map(|steps| steps[number].1).collect()),
    });
    Ok(medians.collect())
}

/// Milliseconds and syncs of each step of the attempt that begins at the second of these places.
fn attempt(calls: &[Call], begins: &[usize]) -> Option<[(f64, f64); 7]> {
    let (before, begin, next) = (begins[0], begins[1], begins[2]);
    let find = |from: usize, to: usize, wanted: &dyn Fn(&Call) -> bool| {
        let place = calls[from..to].iter().position(wanted)?;
        Some(from + place)
    };
    let renamed = |file: &'static str| {
        move |call: &Call| call.text.starts_with("rename(") && call.text.contains(file)
    };
    let commit = |call: &Call| call.is_sync_of("onelane.db-wal>");
    let earlier_end = find(before, begin, &renamed("exit.json"))?;
    let ended = find(earlier_end, begin, &commit)?;
    let recorded = find(begin, next, &renamed("shim.json"))?;
    let server = calls[begin].pid;
    let laid_out = (begin..recorded)
        .rev()
        .find(|place| calls[*place].pid == server)?;
    // A spare shim for the next attempt may begin meanwhile.
    let tool = find(recorded, next, &|call| {
        call.text.starts_with("execve(") && !call.text.contains("/proc/self/exe")
    })?;
    let pid = calls[tool].pid;
    let done = find(tool, next, &|call| {
        call.pid == pid && call.text.starts_with("exit_group(")
    })?;
    let written = find(done, next, &renamed("exit.json"))?;
    let finished = find(written, next, &commit)?;
    let marks = [
        ended, begin, laid_out, recorded, tool, done, written, finished,
    ];
    let mut steps = [(0.0, 0.0); 7];
    for (step, pair) in steps.iter_mut().zip(marks.windows(2)) {
        let ms = (calls[pair[1]].at - calls[pair[0]].at) * 1000.0;
        let syncs = calls[pair[0] + 1..=pair[1]]
            .iter()
            .filter(|call| call.is_sync());
        #[expect(clippy::cast_precision_loss, reason = "a few")]
        let syncs = syncs.count() as f64;
        *step = (ms, syncs);
    }
    Some(steps)
}

/// The calls in the order of their ends. One that another interrupts in the trace is on two lines.
fn calls(trace: &str) -> Vec<Call> {
    let mut unfinished: HashMap<u32, String> = HashMap::new();
    let mut calls: Vec<Call> = trace
        .lines()
        .filter_map(|line| call(line, &mut unfinished).ok())
        .filter(|call| !call.text.contains(" = -1 "))
        .collect();
    calls.sort_by(|one, other| one.at.total_cmp(&other.at));
    calls
}

fn call(line: &str, unfinished: &mut HashMap<u32, String>) -> anyhow::Result<Call> {
    let (pid, rest) = line.trim_start().split_once(' ').context("no pid")?;
    let (at, text) = rest.trim_start().split_once(' ').context("no time")?;
    let (pid, at): (u32, f64) = (pid.parse()?, at.parse()?);
    if text.starts_with("exit_group(") {
        let text = text.to_owned();
        return Ok(Call { pid, at, text });
    }
    if let Some(beginning) = text.strip_suffix(" <unfinished ...>") {
        unfinished.insert(pid, beginning.to_owned());
        anyhow::bail!("not over yet");
    }
    if text.starts_with("<... ") {
        let beginning = unfinished.remove(&pid).context("never begun")?;
        let result = text.split_once(" resumed>").context("not resumed")?.1;
        return Ok(Call {
            pid,
            at,
            text: beginning + result,
        });
    }
    let took = text.rsplit_once('<').context("no duration")?.1;
    let took: f64 = took.trim_end_matches('>').parse()?;
    let text = text.to_owned();
    Ok(Call {
        pid,
        at: at + took,
        text,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_ends_after_its_duration_or_where_it_is_resumed() {
        let trace = "7 10.5 fsync(3</a>) = 0 <0.25>\n8 10.6 rename(\"a\", \"b\" <unfinished ...>\n\
                     7 10.65 mkdir(\"c\", 0777) = -1 ENOENT (No such file or directory) <0.1>\n8 10.7 <... rename resumed>) = 0 <0.1>\n9 10.8 +++ exited with 0 +++\n";
        let calls = calls(trace);
        let ends: Vec<_> = calls.iter().map(|call| (call.pid, call.at)).collect();
        assert_eq!(ends, [(8, 10.7), (7, 10.75)]);
        assert!(calls[0].text.starts_with("rename(") && calls[1].is_sync_of("/a>"));
    }
}
