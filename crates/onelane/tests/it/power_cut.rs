//! Power cuts: the file operations of a real server and its shims are recorded, cut off after each of them, and what was
//! not synced by then is dropped, torn or reordered. Recovery must keep its promises from whatever is left.
//!
//! The model is stricter than file systems are: nothing but a sync orders anything, a file's sync does not keep its
//! name, and a name is kept only with all folders above it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use onelane_core::JobId;
use onelane_exec::{
    AttemptId, Control, Executor, ExitRecord, Found, LocalExecutor, Outcome, Verdict,
};
use onelane_testkit::TestServer;
use serde_json::json;

use crate::BINARY;
use crate::disk::exists;
use crate::trace::{Call, Recorder, folder_of, id_bytes};

const TOOLS: &str = r#"
[tools.work]
command = ["sh", "-c", "echo \"$ONELANE_JOB_ID\" >> \"$0\"; while [ ! -e \"$1\" ]; do sleep 0.02; done; mkdir \"$2/sub\"; dd if=\"$3\" of=\"$2/sub/copy.fasta\" bs=128k status=none; echo done > \"$2/done.txt\"", "{mark}", "{gate}", "{output}", "{query}"]
[tools.work.params.mark]
type = "text"
[tools.work.params.gate]
type = "text"
[tools.work.params.query]
type = "fasta"
alphabet = "protein"
"#;
/// More than a submission may bring without an upload.
const RESIDUES: usize = 300_000;
/// Ways to lose what was not synced, for each cut.
const SEEDS: u64 = 4;

/// A file operation. Files and folders are numbered as they are made: names come and go.
#[derive(Clone, Debug)]
enum Op {
    /// A folder gets, or loses (`None`), a name.
    Entries(Vec<(usize, String, Option<usize>)>),
    Write(usize, usize, Vec<u8>),
    Length(usize, usize),
    Sync(usize),
    /// The client has its answer: from here on the job must not be lost.
    Answered,
    /// The store has committed the success: from here on it must be there.
    Succeeded,
}

#[derive(Clone, Debug)]
enum Node {
    Folder(BTreeMap<String, usize>),
    File(Vec<u8>),
}

/// Everything as it is in memory, which no cut touches, and the operations that led there.
struct Tape {
    root: PathBuf,
    nodes: Vec<Node>,
    positions: BTreeMap<usize, usize>,
    ops: Vec<Op>,
}

const ROOT: usize = 0;

impl Tape {
    fn new(root: &Path) -> Self {
        let mut tape = Self {
            root: root.to_owned(),
            nodes: vec![Node::Folder(BTreeMap::new())],
            positions: BTreeMap::new(),
            ops: Vec::new(),
        };
        // Made and synced when the server started.
        for name in ["jobs", "uploads"] {
            tape.make(&root.join(name), Node::Folder(BTreeMap::new()));
        }
        tape.ops.push(Op::Sync(ROOT));
        tape
    }

    fn find(&self, path: &Path) -> Option<usize> {
        let mut at = ROOT;
        for name in path.strip_prefix(&self.root).ok()? {
            let Node::Folder(entries) = &self.nodes[at] else {
                return None;
            };
            at = *entries.get(name.to_str()?)?;
        }
        Some(at)
    }

    /// The folder above, and the name in it.
    fn place(&self, path: &Path) -> Option<(usize, String)> {
        Some((
            self.find(path.parent()?)?,
            path.file_name()?.to_str()?.to_owned(),
        ))
    }

    fn entries(&mut self, changes: Vec<(usize, String, Option<usize>)>) {
        for (folder, name, node) in &changes {
            if let Node::Folder(entries) = &mut self.nodes[*folder] {
                match node {
                    Some(node) => entries.insert(name.clone(), *node),
                    None => entries.remove(name),
                };
            }
        }
        self.ops.push(Op::Entries(changes));
    }

    fn make(&mut self, path: &Path, node: Node) {
        if let Some((folder, name)) = self.place(path) {
            self.nodes.push(node);
            self.entries(vec![(folder, name, Some(self.nodes.len() - 1))]);
        }
    }

    fn open(&mut self, path: &Path, flags: &str) {
        if flags.contains("O_CREAT") && self.find(path).is_none() {
            self.make(path, Node::File(Vec::new()));
        }
        let Some(node) = self.find(path) else { return };
        if flags.contains("O_TRUNC") {
            self.length(node, 0);
        }
        let Node::File(content) = &self.nodes[node] else {
            return;
        };
        let end = content.len();
        let position = if flags.contains("O_APPEND") { end } else { 0 };
        // A reader does not move the one who writes.
        if flags.contains("O_WRONLY") || flags.contains("O_RDWR") {
            self.positions.insert(node, position);
        }
    }

    fn write(&mut self, path: &Path, data: &[u8]) {
        let Some(node) = self.find(path) else { return };
        let at = self.positions.get(&node).copied().unwrap_or(0);
        if let Node::File(content) = &mut self.nodes[node] {
            content.resize(content.len().max(at + data.len()), 0);
            content[at..at + data.len()].copy_from_slice(data);
            self.positions.insert(node, at + data.len());
            self.ops.push(Op::Write(node, at, data.to_vec()));
        }
    }

    fn length(&mut self, node: usize, bytes: usize) {
        if let Node::File(content) = &mut self.nodes[node] {
            content.resize(bytes, 0);
            self.ops.push(Op::Length(node, bytes));
        }
    }

    fn rename(&mut self, from: &Path, to: &Path) {
        let (Some(node), Some(old), Some(new)) =
            (self.find(from), self.place(from), self.place(to))
        else {
            return;
        };
        self.entries(vec![(old.0, old.1, None), (new.0, new.1, Some(node))]);
    }

    fn take(&mut self, call: &Call) {
        let path = |number: usize| PathBuf::from(call.text(number));
        let number = |index: usize| usize::try_from(call.numbers()[index]).unwrap();
        match call.name.as_str() {
            "mkdir" => self.make(&path(0), Node::Folder(BTreeMap::new())),
            "openat" if call.text(1).starts_with('/') => self.open(&path(1), &call.rest),
            "write" => self.write(&path(0), call.strings.get(1).map_or(&[], |data| data)),
            "fsync" | "fdatasync" => {
                self.ops.extend(self.find(&path(0)).map(Op::Sync));
            }
            "rename" => self.rename(&path(0), &path(1)),
            "unlink" | "rmdir" => self.unlink(&path(0)),
            "unlinkat" => self.unlink(&path(0).join(call.text(1))),
            "ftruncate" => {
                if let Some(node) = self.find(&path(0)) {
                    self.length(node, number(0));
                }
            }
            "fallocate" => {
                if let Some(node) = self.find(&path(0)) {
                    let Node::File(content) = &self.nodes[node] else {
                        return;
                    };
                    self.length(node, content.len().max(number(1) + number(2)));
                }
            }
            _ => {}
        }
    }

    fn unlink(&mut self, path: &Path) {
        if self.find(path).is_some()
            && let Some((folder, name)) = self.place(path)
        {
            self.entries(vec![(folder, name, None)]);
        }
    }
}

/// The least generator that does (xorshift64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % bound as u64).unwrap()
    }
}

/// What is on the disk after a cut. Seed 0 keeps only what was synced, seed 1 everything; the others choose.
fn after_cut(tape: &Tape, cut: usize, seed: u64) -> Vec<Node> {
    let mut syncs: BTreeMap<usize, usize> = BTreeMap::new();
    for (index, op) in tape.ops[..cut].iter().enumerate() {
        if let Op::Sync(node) = op {
            syncs.insert(*node, index);
        }
    }
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15 ^ (seed << 32) ^ cut as u64);
    let mut disk: Vec<Node> = tape.nodes.iter().map(empty).collect();
    for (index, op) in tape.ops[..cut].iter().enumerate() {
        let synced = |node: usize| syncs.get(&node).is_some_and(|sync| *sync > index);
        let mut kept = |is_synced: bool| is_synced || seed == 1 || (seed > 1 && dice.below(2) == 0);
        match op {
            Op::Entries(changes) if kept(changes.iter().any(|(folder, ..)| synced(*folder))) => {
                for change in changes {
                    enter(&mut disk, change);
                }
            }
            Op::Write(node, at, data) if kept(synced(*node)) => put(&mut disk[*node], *at, data),
            Op::Write(node, at, data) if seed > 1 => {
                // Torn: a part of it, with zeros behind or without.
                let part = dice.below(data.len() + 1);
                put(&mut disk[*node], *at, &data[..part]);
                if dice.below(2) == 0 {
                    put(&mut disk[*node], at + part, &vec![0; data.len() - part]);
                }
            }
            Op::Length(node, bytes) if kept(synced(*node)) => {
                if let Node::File(content) = &mut disk[*node] {
                    content.resize(*bytes, 0);
                }
            }
            _ => {}
        }
    }
    disk
}

fn empty(node: &Node) -> Node {
    match node {
        Node::Folder(_) => Node::Folder(BTreeMap::new()),
        Node::File(_) => Node::File(Vec::new()),
    }
}

fn enter(disk: &mut [Node], (folder, name, node): &(usize, String, Option<usize>)) {
    if let Node::Folder(entries) = &mut disk[*folder] {
        match node {
            Some(node) => entries.insert(name.clone(), *node),
            None => entries.remove(name),
        };
    }
}

fn put(node: &mut Node, at: usize, data: &[u8]) {
    if let Node::File(content) = node {
        if content.len() < at {
            content.resize(at, 0);
        }
        let over = data.len().min(content.len() - at);
        content[at..at + over].copy_from_slice(&data[..over]);
        content.extend_from_slice(&data[over..]);
    }
}

/// Writes what can be reached from the root, as another boot finds it.
fn build(disk: &[Node], node: usize, path: &Path, this_boot: &str) {
    match &disk[node] {
        Node::Folder(entries) => {
            fs::create_dir_all(path).unwrap();
            for (name, node) in entries {
                build(disk, *node, &path.join(name), this_boot);
            }
        }
        Node::File(content) => {
            let other = "0".repeat(this_boot.len());
            let mut content = content.clone();
            // Records are small, and looking through the rest takes long.
            let is_record = content.len() < 64 << 10;
            let mut at = 0;
            while is_record && let Some(found) = find(&content[at..], this_boot.as_bytes()) {
                at += found;
                content[at..at + other.len()].copy_from_slice(other.as_bytes());
            }
            fs::write(path, content).unwrap();
        }
    }
}

fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.windows(wanted.len()).position(|part| part == wanted)
}

/// A recorded run: one job that succeeds, one that is cancelled while it runs.
struct Run {
    tape: Tape,
    good: String,
    cancelled: String,
    query: String,
    /// A backup of the store from the moment when the good one ran.
    backup: PathBuf,
    mark: PathBuf,
    server: TestServer,
}

async fn submit(server: &TestServer, query: &str, gate: &Path) -> String {
    let form = reqwest::multipart::Form::new()
        .text("mark", server.folder().join("mark").display().to_string())
        .text("gate", gate.display().to_string())
        .part(
            "query",
            reqwest::multipart::Part::text(query.to_owned()).file_name("q.fasta"),
        );
    let url = server.url("/api/v1/tools/work/jobs");
    let response = server.http.post(url).multipart(form).send().await.unwrap();
    assert_eq!(response.status(), 201);
    let job: serde_json::Value = response.json().await.unwrap();
    job["id"].as_str().unwrap().to_owned()
}

async fn record() -> Option<Run> {
    let mut server = TestServer::start(BINARY, Some(TOOLS));
    let recorder = Recorder::attach(&server)?;
    let gate = server.folder().join("gate");
    let query = format!(">a\n{}\n", "ACDEFGHIKL".repeat(RESIDUES / 10));
    let good = submit(&server, &query, &gate).await;
    server.until(&good, "running").await;
    let backup = server.folder().join("backup.db");
    let mut command = std::process::Command::new(BINARY);
    command
        .arg("backup")
        .arg(&backup)
        .arg("--data")
        .arg(server.data());
    assert!(
        command
            .current_dir(server.folder())
            .output()
            .unwrap()
            .status
            .success()
    );
    fs::write(&gate, "").unwrap();
    assert_eq!(server.wait(&good).await["state"], "succeeded");
    let cancelled = submit(&server, &query, Path::new("/nonexistent")).await;
    server.until(&cancelled, "running").await;
    server
        .post(&format!("/api/v1/jobs/{cancelled}/cancel"), &json!({}))
        .await;
    assert_eq!(server.wait(&cancelled).await["state"], "cancelled");
    let data = server.data().canonicalize().unwrap();
    server.terminate();
    exists(&folder_of(&data, &cancelled).join("attempts/1/exit.json")).await;
    let tape = tape(&recorder.finish(), &data, &good);
    let mark = server.folder().join("mark");
    Some(Run {
        tape,
        good,
        cancelled,
        query,
        backup,
        mark,
        server,
    })
}

fn tape(calls: &[Call], data: &Path, good: &str) -> Tape {
    let mut tape = Tape::new(data);
    let mut said = BTreeSet::new();
    for call in calls.iter().filter(|call| call.succeeded) {
        if call.data_has(b"HTTP/1.1 201") && said.insert("answered") {
            tape.ops.push(Op::Answered);
        }
        let is_log = call.name == "pwrite64" && call.text(0).ends_with("-wal");
        if is_log
            && call.data_has(b"succeeded")
            && call.data_has(&id_bytes(good))
            && said.insert("succeeded")
        {
            tape.ops.push(Op::Succeeded);
        }
        tape.take(call);
    }
    assert_eq!(said.len(), 2, "both moments are on the tape");
    tape
}

/// What the real folder holds must be what the tape led to, or the replay would prove nothing.
fn the_tape_is_true(run: &Run) {
    let data = run.server.data();
    for id in [&run.good, &run.cancelled] {
        for name in [
            "attempts/1/exit.json",
            "attempts/1/shim.json",
            "job.json",
            "input/query.fasta",
        ] {
            let path = folder_of(&data.canonicalize().unwrap(), id).join(name);
            let node = run
                .tape
                .find(&path)
                .unwrap_or_else(|| panic!("{}", path.display()));
            let Node::File(content) = &run.tape.nodes[node] else {
                panic!("{}", path.display())
            };
            // strace shows the whole of every write.
            assert!(*content == fs::read(&path).unwrap(), "{}", path.display());
        }
    }
}

fn is_success(exit: &ExitRecord) -> bool {
    exit.outcome == Outcome::Exit { code: 0 } && exit.stopped.is_none() && exit.trouble.is_none()
}

async fn recover(data: &Path, id: &str) -> Verdict {
    let executor = LocalExecutor::new(
        &data.join("jobs"),
        &data.join("uploads"),
        "tape",
        Control::guard("tape"),
    );
    let job: JobId = id.parse().unwrap();
    match executor
        .recover(AttemptId { job, attempt: 1 }, Some("another boot"))
        .await
        .unwrap()
    {
        Found::Over(Verdict::Stuck { why }) => panic!("nothing lives after a power cut: {why}"),
        Found::Over(verdict) => verdict,
        Found::Running(_) => panic!("nothing runs after a power cut"),
    }
}

fn output_is_whole(run: &Run, data: &Path) -> bool {
    let output = folder_of(data, &run.good).join("attempts/1/output");
    let read = |name: &str| fs::read_to_string(output.join(name)).unwrap_or_default();
    // The server has stripped line ends and wraps the sequence.
    let copied = read("sub/copy.fasta").replace('\n', "");
    read("done.txt") == "done\n" && copied == run.query.replace('\n', "")
}

fn input_is_whole(run: &Run, data: &Path, id: &str) -> bool {
    let paths = [
        folder_of(data, id).join("input/query.fasta"),
        data.join("uploads").join(id).join("0"),
    ];
    let is_it = |path: &PathBuf| {
        let text = fs::read_to_string(path).unwrap_or_default();
        text.replace('\n', "") == run.query.replace('\n', "")
    };
    paths.iter().any(is_it) || upload_parts(data, id).iter().any(is_it)
}

/// Whatever the upload's files are called.
fn upload_parts(data: &Path, id: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(data.join("uploads").join(id));
    entries
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .collect()
}

async fn promises_hold(run: &Run, data: &Path, cut: usize, seed: u64) {
    let at = format!(
        "cut {cut} ({:?}), seed {seed}",
        run.tape.ops.get(cut.wrapping_sub(1)).map(short)
    );
    let past = |wanted: fn(&Op) -> bool| run.tape.ops[..cut].iter().any(wanted);
    let answered = past(|op| matches!(op, Op::Answered));
    let succeeded = past(|op| matches!(op, Op::Succeeded));
    assert!(
        !answered || input_is_whole(run, data, &run.good),
        "{at}: an acknowledged job's input is lost"
    );
    let verdict = recover(data, &run.good).await;
    let is_good = matches!(&verdict, Verdict::Exited(exit) if is_success(exit));
    assert!(
        !is_good || output_is_whole(run, data),
        "{at}: a success without its output"
    );
    // The store has the success; what it stands on is here.
    assert!(
        !succeeded || output_is_whole(run, data),
        "{at}: a committed success has lost its output: {verdict:?}"
    );
    let again = recover(data, &run.good).await;
    let is_still_good = matches!(&again, Verdict::Exited(exit) if is_success(exit));
    assert_eq!(is_good, is_still_good, "{at}: the second look differs");
    let other = recover(data, &run.cancelled).await;
    let is_wrong = matches!(&other, Verdict::Exited(exit) if is_success(exit));
    assert!(!is_wrong, "{at}: a cancelled job became a success");
}

/// These folders live for a moment: where there is a file system in memory, no disk has to sync them.
fn in_memory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| tempfile::tempdir().unwrap())
}

fn short(op: &Op) -> String {
    let mut text = format!("{op:?}");
    text.truncate(60);
    text
}

#[tokio::test]
async fn from_every_legal_state_after_a_power_cut_recovery_keeps_the_promises() {
    let Some(run) = record().await else { return };
    the_tape_is_true(&run);
    let this_boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let length = run.tape.ops.len();
    assert!(length > 60, "{length} operations");
    for cut in 0..=length {
        for seed in 0..SEEDS {
            let folder = in_memory();
            let data = folder.path().join("data");
            build(
                &after_cut(&run.tape, cut, seed),
                ROOT,
                &data,
                this_boot.trim(),
            );
            if data.join("jobs").exists() {
                promises_hold(&run, &data, cut, seed).await;
            }
        }
    }
    a_replay_without_a_sync_loses_something(&run, this_boot.trim());
    real_servers_go_on(run, this_boot.trim()).await;
}

/// With any of the syncs left out that the promises stand on, some state must break them, or this test could not fail.
fn a_replay_without_a_sync_loses_something(run: &Run, this_boot: &str) {
    let attempt = folder_of(&run.tape.root, &run.good).join("attempts/1");
    let needed = [
        "output/done.txt",
        "output/sub/copy.fasta",
        "output/sub",
        "output",
        ".",
    ];
    for name in needed {
        let node = run
            .tape
            .find(&attempt.join(name).components().collect::<PathBuf>())
            .unwrap();
        let is_kept = |op: &&Op| !matches!(op, Op::Sync(other) if *other == node);
        let tape = Tape {
            root: run.tape.root.clone(),
            nodes: run.tape.nodes.clone(),
            positions: BTreeMap::new(),
            ops: run.tape.ops.iter().filter(is_kept).cloned().collect(),
        };
        let cut = tape
            .ops
            .iter()
            .position(|op| matches!(op, Op::Succeeded))
            .unwrap()
            + 1;
        let folder = in_memory();
        let data = folder.path().join("data");
        build(&after_cut(&tape, cut, 0), ROOT, &data, this_boot);
        assert!(!output_is_whole(run, &data), "without the sync of `{name}`");
    }
}

/// The store as another boot finds it, with the claim or without.
fn in_another_boot(database: &Path, claim_is_lost: bool) {
    let db = rusqlite::Connection::open(database).unwrap();
    let change = if claim_is_lost {
        "DELETE FROM attempt;
         UPDATE job SET state = 'queued', ready_at = created_at, attempt = 0, claimed_at = NULL, started_at = NULL
         WHERE state IN ('starting', 'running')"
    } else {
        "UPDATE attempt SET boot_id = 'another', claimed_boot_id = 'another'"
    };
    db.execute_batch(change).unwrap();
}

/// A sample, with the whole server: the store says that the job runs, and the folder is what the cut left.
async fn real_servers_go_on(mut run: Run, this_boot: &str) {
    let is_shim = |call: &Op| matches!(call, Op::Entries(changes) if changes.iter().any(|(_, name, node)| name == "shim.json" && node.is_some()));
    let from = run.tape.ops.iter().position(is_shim).unwrap() + 2;
    let to = run
        .tape
        .ops
        .iter()
        .position(|op| matches!(op, Op::Succeeded))
        .unwrap();
    let data = run.server.data();
    let instance = fs::read(data.join("instance.json")).unwrap();
    for number in 0..8 {
        let cut = from + (to - from) * number / 7;
        let disk = after_cut(&run.tape, cut, number as u64);
        fs::remove_dir_all(&data).unwrap();
        build(&disk, ROOT, &data, this_boot);
        fs::write(data.join("instance.json"), &instance).unwrap();
        fs::copy(&run.backup, data.join("onelane.db")).unwrap();
        // Its claim is not synced by itself: the cut may have taken that, too.
        let claim_is_lost = number % 2 == 1;
        in_another_boot(&data.join("onelane.db"), claim_is_lost);
        let before = fs::read_to_string(&run.mark).unwrap().lines().count();
        let had_ended = fs::read(folder_of(&data, &run.good).join("attempts/1/exit.json"))
            .is_ok_and(|text| serde_json::from_slice::<ExitRecord>(&text).is_ok());
        run.server.restart();
        let job = run.server.wait(&run.good).await;
        assert_eq!(job["state"], "succeeded", "cut {cut}: {job}");
        if had_ended || !claim_is_lost {
            let attempt = if had_ended { 1 } else { 2 };
            assert_eq!(job["attempt"], attempt, "cut {cut}: {job}");
        }
        let after = fs::read_to_string(&run.mark).unwrap().lines().count();
        assert_eq!(
            after - before,
            usize::from(!had_ended),
            "cut {cut}: it ran again only if it had not ended"
        );
        run.server.kill();
    }
}
