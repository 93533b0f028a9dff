//! In which order things reach the disk and the client, by the system calls of a real server.

use std::path::{Path, PathBuf};

use onelane_testkit::TestServer;
use serde_json::json;

use crate::BINARY;
use crate::trace::{Call, Recorder, folder_of, id_bytes};

const TOOLS: &str = r#"
[tools.writes]
command = ["sh", "-c", "mkdir \"$0/sub\"; echo one > \"$0/one\"; echo two > \"$0/sub/two\"", "{output}"]
"#;

/// What a run did, and of which jobs.
struct Run {
    calls: Vec<Call>,
    ids: Vec<String>,
    data: PathBuf,
}

async fn record(jobs: usize) -> Option<Run> {
    let mut server = TestServer::start(BINARY, Some(TOOLS));
    let recorder = Recorder::attach(&server)?;
    let mut ids = Vec::new();
    let none = json!({});
    let submissions = (0..jobs).map(|_| server.submit("writes", &none));
    // At the same time, so that commits are shared.
    ids.extend(futures_util::future::join_all(submissions).await);
    for id in &ids {
        assert_eq!(server.wait(id).await["state"], "succeeded");
    }
    let data = server.data().canonicalize().unwrap();
    server.terminate();
    let calls = recorder.finish();
    Some(Run { calls, ids, data })
}

/// An answer, and the end of a wait, are refused as too early when this says why.
type Verdict = Result<(), String>;

fn is_log(call: &Call) -> bool {
    call.name == "pwrite64" && call.path().extension().is_some_and(|end| end == "db-wal")
}

/// The frame that ends a transaction has the database's size in the second word of its header (`SQLite`'s file format,
/// "WAL file format").
fn ends_transaction(call: &Call) -> bool {
    let header = call.strings.get(1);
    header.is_some_and(|header| header.len() == 24 && header[4..8] != [0; 4])
}

/// From the first time that a text is in the log: the last write of its transaction.
fn transaction_with<'c>(calls: &'c [Call], wanted: &[&[u8]]) -> Option<(usize, &'c Call)> {
    let first = calls
        .iter()
        .position(|call| is_log(call) && wanted.iter().all(|part| call.data_has(part)))?;
    // The page of the last frame follows its header; the text may be in that very page.
    let header = first.saturating_sub(1)
        + calls[first.saturating_sub(1)..]
            .iter()
            .position(|call| is_log(call) && ends_transaction(call))?;
    let page = calls[header + 1..].iter().find(|call| is_log(call))?;
    Some((first, page))
}

fn answered_when_synced(calls: &[Call], id: &str) -> Verdict {
    let is_answer = |call: &Call| {
        matches!(call.name.as_str(), "write" | "writev")
            && call.data_has(b"HTTP/1.1 201")
            && call.data_has(id.as_bytes())
    };
    let answer = calls
        .iter()
        .find(|call| is_answer(call))
        .ok_or("no answer")?;
    let (_, end) = transaction_with(calls, &[&id_bytes(id)]).ok_or("no transaction")?;
    let log = end.path();
    let covers = |call: &&Call| call.is_sync() && call.path() == log && call.begun > end.done;
    match calls.iter().find(covers) {
        Some(sync) if sync.done < answer.begun => Ok(()),
        Some(_) => Err(format!("job {id} was answered before its sync came back")),
        None => Err(format!("job {id} was never synced")),
    }
}

/// All that a success stands on: each file's content, and each entry on the way to it.
fn succeeded_when_synced(calls: &[Call], data: &Path, id: &str) -> Verdict {
    let (commit, _) = transaction_with(calls, &[&id_bytes(id), b"succeeded"]).ok_or("no commit")?;
    let before = &calls[..commit];
    let deadline = calls[commit].begun;
    let jobs = data.join("jobs");
    let folder = folder_of(data, id);
    let attempt = folder.join("attempts/1");
    let output = attempt.join("output");
    let synced = |path: &Path, since: usize| {
        before.iter().any(|call| {
            call.is_sync() && call.path() == path && call.begun > since && call.done < deadline
        })
    };
    let mut seen = 0;
    for call in before.iter().filter(|call| call.succeeded) {
        let Some((made, content)) = made_by(call) else {
            continue;
        };
        let stands_on = made.starts_with(&output) || output.starts_with(&made);
        if !stands_on || !made.starts_with(&jobs) || made == jobs {
            continue;
        }
        seen += 1;
        let parent = made.parent().unwrap();
        if !synced(parent, call.done) {
            return Err(format!("the entry `{}` was not synced", made.display()));
        }
        if content && !written_before_synced(before, &made, &synced) {
            return Err(format!(
                "the content of `{}` was not synced",
                made.display()
            ));
        }
    }
    // shard, job, attempts, 1, output, sub, one, two
    if seen < 8 {
        Err(format!("only {seen} entries were made"))
    } else {
        Ok(())
    }
}

/// The entry that a call makes, and whether it is a file.
fn made_by(call: &Call) -> Option<(PathBuf, bool)> {
    let path = |number: usize| PathBuf::from(call.text(number));
    match call.name.as_str() {
        "mkdir" => Some((path(0), false)),
        "mkdirat" | "openat" if call.text(1).starts_with('/') => {
            let makes = call.name == "mkdirat" || call.rest.contains("O_CREAT");
            makes.then(|| (path(1), call.name == "openat"))
        }
        "rename" => Some((path(1), true)),
        "renameat" | "renameat2" => Some((path(3), true)),
        _ => None,
    }
}

/// A file that was renamed was synced under its earlier name, before, or under its new one, afterwards.
fn written_before_synced(
    calls: &[Call],
    path: &Path,
    synced: &impl Fn(&Path, usize) -> bool,
) -> bool {
    let renamed = calls
        .iter()
        .find(|call| call.name == "rename" && call.text(1) == path.to_string_lossy());
    let name = renamed.map_or_else(|| path.to_owned(), |call| call.text(0).into());
    let writes = calls.iter().filter(|call| {
        matches!(call.name.as_str(), "write" | "pwrite64" | "ftruncate") && call.path() == name
    });
    let Some(last) = writes.map(|call| call.done).max() else {
        return false;
    };
    let in_time = |rename: &Call| {
        calls.iter().any(|call| {
            call.is_sync() && call.path() == name && call.begun > last && call.done < rename.begun
        })
    };
    renamed.map_or_else(
        || synced(&name, last),
        |rename| in_time(rename) || synced(path, rename.done),
    )
}

#[tokio::test]
async fn no_submission_is_answered_before_its_sync_and_no_success_committed_before_its_results() {
    let Some(run) = record(12).await else { return };
    for id in &run.ids {
        answered_when_synced(&run.calls, id).unwrap();
    }
    let Some(run) = record(1).await else { return };
    succeeded_when_synced(&run.calls, &run.data, &run.ids[0]).unwrap();
    the_checkers_find_what_is_out_of_order(&run);
}

/// The same trace with one thing changed must be refused, or the test above could not fail.
fn the_checkers_find_what_is_out_of_order(run: &Run) {
    let id = &run.ids[0];
    let refused = |calls: &[Call], what: &str| {
        let both = answered_when_synced(calls, id)
            .and_then(|()| succeeded_when_synced(calls, &run.data, id));
        assert!(both.is_err(), "{what}");
    };
    let without = |drop: &dyn Fn(&Call) -> bool| -> Vec<Call> {
        let kept = run.calls.iter().filter(|call| !drop(call));
        kept.cloned().collect()
    };
    refused(
        &without(&|call| call.is_sync() && is_database(call)),
        "no sync of the log",
    );
    let mut early = run.calls.clone();
    let (_, end) = transaction_with(&run.calls, &[&id_bytes(id)]).unwrap();
    for call in early
        .iter_mut()
        .filter(|call| call.data_has(b"HTTP/1.1 201"))
    {
        (call.begun, call.done) = (end.done, end.done);
    }
    refused(&early, "an answer at once after the write");
    let attempt = folder_of(&run.data, id).join("attempts/1");
    let needed = [
        run.data.join("jobs"),
        attempt.join("output/one"),
        attempt.join("output/sub/two"),
        attempt.join("output/sub"),
        attempt.join("output"),
        attempt.clone(),
    ];
    let above = attempt.ancestors().skip(1).take(3).map(Path::to_owned);
    for path in needed.into_iter().chain(above) {
        let what = format!("no sync of {}", path.display());
        refused(
            &without(&|call| call.is_sync() && call.path() == path),
            &what,
        );
    }
}

fn is_database(call: &Call) -> bool {
    call.text(0).ends_with("onelane.db-wal")
}
