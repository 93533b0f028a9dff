use std::process::{Command, Output, Stdio};

use onelane_testkit::TestServer;
use serde_json::Value;

use crate::{BINARY, scripts};

fn command(server: &TestServer, arguments: &[&str]) -> Command {
    let mut command = Command::new(BINARY);
    command
        .args(["--server", &server.url("")])
        .args(arguments)
        .current_dir(server.folder());
    command
}

fn run(server: &TestServer, arguments: &[&str]) -> (i32, String, String) {
    said(
        &command(server, arguments)
            .stdin(Stdio::null())
            .output()
            .unwrap(),
    )
}

fn said(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.code().unwrap_or(-1),
        text(&output.stdout),
        text(&output.stderr),
    )
}

#[test]
fn run_submits_waits_and_fetches_the_results() {
    let server = scripts();
    std::fs::write(server.folder().join("q.fa"), ">a\nACDE\n").unwrap();
    let (code, _, err) = run(
        &server,
        &["run", "report", "-p", "query=@q.fa", "-o", "results"],
    );
    assert_eq!(code, 0, "{err}");
    let copy = std::fs::read_to_string(server.folder().join("results/copy.fasta")).unwrap();
    assert_eq!(copy, ">a\nACDE\n");
}

#[test]
fn the_same_key_takes_up_the_same_job() {
    let server = scripts();
    for folder in ["one", "two"] {
        let (code, _, err) = run(
            &server,
            &[
                "run",
                "sleep",
                "-p",
                "seconds=0",
                "--key",
                "k",
                "-o",
                folder,
            ],
        );
        assert_eq!(code, 0, "{err}");
        assert!(server.folder().join(folder).join("done.txt").exists());
    }
    let (_, list, _) = run(&server, &["--json", "list"]);
    let list: Value = serde_json::from_str(&list).unwrap();
    assert_eq!(list["jobs"].as_array().unwrap().len(), 1);
}

#[test]
fn exit_codes_tell_failure_refusal_absence_and_cancellation_apart() {
    let server = scripts();
    std::fs::write(server.folder().join("q.fa"), ">a\nACDE\n").unwrap();
    let failing = [
        "run",
        "report",
        "-p",
        "query=@q.fa",
        "-p",
        "code=4",
        "-o",
        "r",
    ];
    let (code, _, err) = run(&server, &failing);
    assert_eq!(code, 1, "{err}");
    let (code, out, err) = run(&server, &["show", "last"]);
    assert_eq!(code, 0, "{err}");
    assert!(
        out.contains("ran out of something") && err.contains("trouble"),
        "{out}{err}"
    );
    let (code, _, err) = run(&server, &["submit", "sleep", "-p", "seconds=never"]);
    assert!(code == 3 && err.contains("seconds"), "{code} {err}");
    let (code, _, _) = run(&server, &["show", "ffffffff"]);
    assert_eq!(code, 4);
    let (code, _, _) = run(&server, &["submit", "sleep", "-p", "seconds=60"]);
    assert_eq!(code, 0);
    assert_eq!(run(&server, &["cancel", "last"]).0, 0);
    assert_eq!(run(&server, &["wait", "last"]).0, 6);
    let (code, out, err) = run(&server, &["delete", "last"]);
    assert!(code == 0 && out.contains("deleted"), "{out}{err}");
    assert_eq!(run(&server, &["delete", "ffffffff"]).0, 4);
    let (code, _, _) = run(&server, &["submit", "sleep", "-p", "seconds=60"]);
    assert_eq!(code, 0);
    let (code, _, err) = run(&server, &["delete", "last"]);
    assert!(code == 3 && err.contains("not ended"), "{code} {err}");
    assert_eq!(run(&server, &["delete", "--cancel", "last"]).0, 0);
    let (_, list, _) = run(&server, &["--json", "list"]);
    let list: Value = serde_json::from_str(&list).unwrap();
    assert_eq!(list["jobs"].as_array().unwrap().len(), 1);
    let (code, _, err) = said(
        &Command::new(BINARY)
            .args(["--server", "http://127.0.0.1:9", "list"])
            .output()
            .unwrap(),
    );
    assert!(code == 5 && err.contains("onelane serve"), "{code} {err}");
}

#[test]
fn an_interrupt_cancels_the_job() {
    let server = scripts();
    let mut child = command(&server, &["run", "sleep", "-p", "seconds=60", "-o", "r"]);
    let mut child = child
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    for _ in 0..500 {
        if run(&server, &["--json", "list", "--state", "running"])
            .1
            .contains("\"running\"")
        {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let pid = nix::unistd::Pid::from_raw(child.id().cast_signed());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(run(&server, &["wait", "last"]).0, 6);
}

#[test]
fn every_other_command_answers() {
    let server = scripts();
    assert_eq!(
        run(&server, &["submit", "sleep", "-p", "seconds=0", "--wait"]).0,
        0
    );
    for arguments in [
        &["list"][..],
        &["logs", "last"],
        &["queue"],
        &["queue", "pause"],
        &["queue", "resume"],
        &["tools"],
        &["tools", "report"],
        &["download", "last", "-o", "d"],
        &["doctor"],
    ] {
        let (code, out, err) = run(&server, arguments);
        assert_eq!(code, 0, "{arguments:?}: {out}{err}");
    }
    assert_eq!(run(&server, &["logs", "last"]).1, "started\n");
}
