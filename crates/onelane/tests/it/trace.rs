//! System calls of a real server and its shims, recorded by strace.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use onelane_testkit::TestServer;

const CALLS: &str = "trace=write,writev,pwrite64,fsync,fdatasync,rename,renameat,renameat2,mkdir,mkdirat,openat,unlink,\
                     unlinkat,rmdir,ftruncate,fallocate";

/// One system call. Positions count lines of the trace: what another line between them did came between.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) name: String,
    /// Paths of descriptors, paths and data, in the order of the arguments.
    pub(crate) strings: Vec<Vec<u8>>,
    /// All but the strings.
    pub(crate) rest: String,
    pub(crate) begun: usize,
    pub(crate) done: usize,
    pub(crate) succeeded: bool,
}

impl Call {
    pub(crate) fn is_sync(&self) -> bool {
        matches!(self.name.as_str(), "fsync" | "fdatasync") && self.succeeded
    }

    /// The first string as a path: the descriptor's, for calls on one.
    pub(crate) fn path(&self) -> PathBuf {
        self.text(0).into()
    }

    pub(crate) fn text(&self, number: usize) -> String {
        let bytes = self.strings.get(number).cloned().unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The whole numbers among the arguments behind the last string.
    pub(crate) fn numbers(&self) -> Vec<u64> {
        let arguments = self.rest.rsplit_once(" = ").map_or("", |(text, _)| text);
        let arguments = arguments.trim_end().trim_end_matches(')');
        let parts = arguments.split(',').skip(1);
        parts.filter_map(|part| part.trim().parse().ok()).collect()
    }

    pub(crate) fn data_has(&self, wanted: &[u8]) -> bool {
        let has = |data: &Vec<u8>| data.windows(wanted.len()).any(|part| part == wanted);
        self.strings.iter().skip(1).any(has)
    }
}

/// strace, attached to a server and all that it starts.
pub(crate) struct Recorder {
    strace: Child,
    file: PathBuf,
}

impl Recorder {
    /// Nothing (and a loud line) where tracing is not possible.
    pub(crate) fn attach(server: &TestServer) -> Option<Self> {
        let file = server.folder().join("strace");
        let mut command = Command::new("strace");
        command.args(["-f", "-y", "-xx", "-s", "1000000", "-e", CALLS, "-o"]);
        command.arg(&file).arg("-p").arg(server.pid().to_string());
        let spawned = command.stderr(Stdio::piped()).spawn();
        let attached = spawned.ok().and_then(|mut strace| {
            let mut lines = BufReader::new(strace.stderr.take()?).lines();
            let attached = lines.find_map(|line| line.ok()?.contains("attached").then_some(()));
            // Whatever else it says must not fill the pipe.
            std::thread::spawn(move || lines.for_each(drop));
            attached.map(|()| strace)
        });
        if attached.is_none() {
            let strict = std::env::var_os("ONELANE_REQUIRE_TOOLS").is_some();
            assert!(!strict, "strace is needed");
            eprintln!("SKIPPED: strace is not installed or may not trace here");
        }
        attached.map(|strace| Self { strace, file })
    }

    /// Waits for strace's own end, after that of all that it traced.
    pub(crate) fn finish(mut self) -> Vec<Call> {
        self.strace.wait().unwrap();
        parse(&std::fs::read_to_string(&self.file).unwrap())
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.strace.kill().ok();
        self.strace.wait().ok();
    }
}

fn parse(text: &str) -> Vec<Call> {
    let mut begun: Vec<(String, usize, String)> = Vec::new();
    let mut calls = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let Some((pid, said)) = line.split_once(' ') else {
            continue;
        };
        let said = said.trim_start();
        if let Some(head) = said.strip_suffix(" <unfinished ...>") {
            begun.push((pid.to_owned(), number, head.to_owned()));
        } else if let Some(rest) = said.strip_prefix("<... ") {
            let Some(index) = begun.iter().position(|(other, ..)| other == pid) else {
                continue;
            };
            let (_, first, head) = begun.remove(index);
            let tail = rest.split_once(" resumed>").map_or("", |(_, tail)| tail);
            calls.extend(call(&format!("{head}{tail}"), first, number));
        } else {
            calls.extend(call(said, number, number));
        }
    }
    calls.sort_by_key(|call| call.done);
    calls
}

fn call(text: &str, begun: usize, done: usize) -> Option<Call> {
    let (name, arguments) = text.split_once('(')?;
    let (strings, rest) = decode(arguments);
    let result = rest.rsplit_once(" = ")?.1;
    Some(Call {
        name: name.to_owned(),
        strings,
        succeeded: !result.starts_with('-') && !result.starts_with('?'),
        rest,
        begun,
        done,
    })
}

/// Takes the strings, each between quotes or angle brackets and all in hexadecimal, out of a call's text.
fn decode(text: &str) -> (Vec<Vec<u8>>, String) {
    let (mut strings, mut rest) = (Vec::new(), String::new());
    for part in text.split(['"', '<', '>']) {
        if let Some(hex) = part.strip_prefix("\\x") {
            let digits = hex.split("\\x");
            strings.push(
                digits
                    .map(|two| u8::from_str_radix(two, 16).unwrap())
                    .collect(),
            );
        } else {
            rest.push_str(part);
        }
    }
    (strings, rest)
}

/// The folder of a job, from its id.
pub(crate) fn folder_of(data: &Path, id: &str) -> PathBuf {
    data.join("jobs").join(&id[34..]).join(id)
}

/// The sixteen bytes of an id, as the store has them.
pub(crate) fn id_bytes(id: &str) -> Vec<u8> {
    let digits: Vec<u32> = id.chars().filter_map(|digit| digit.to_digit(16)).collect();
    let byte = |two: &[u32]| u8::try_from(two[0] * 16 + two[1]).unwrap();
    digits.chunks(2).map(byte).collect()
}
