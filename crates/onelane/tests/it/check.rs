//! `onelane check`, `backup` and `restore`, and a server before a damaged database.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use onelane_testkit::TestServer;
use serde_json::{Value, json};

use crate::BINARY;
use crate::disk::exists;

const TOOLS: &str = r#"
[tools.marks]
command = ["sh", "-c", "echo $ONELANE_JOB_ID >> \"$0\"; echo done > \"$ONELANE_OUTPUT/done.txt\"; exit \"$1\"", "{mark}", "{code}"]
[tools.marks.params.mark]
type = "text"
[tools.marks.params.code]
type = "integer"
default = 0
[tools.gated]
command = ["sh", "-c", "while [ ! -e \"$0\" ]; do sleep 0.02; done", "{gate}"]
[tools.gated.params.gate]
type = "text"
"#;

struct Scene {
    server: TestServer,
}

impl Scene {
    fn start() -> Self {
        Self {
            server: TestServer::start(BINARY, Some(TOOLS)),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.server.folder().join(name)
    }

    async fn submit(&self, code: u8) -> String {
        let params = json!({"mark": self.path("mark"), "code": code});
        self.server.submit("marks", &params).await
    }

    async fn queue(&self, verb: &str) {
        self.server
            .post(&format!("/api/v1/queue/{verb}"), &json!({}))
            .await;
    }

    /// How often a job's tool was started.
    fn marks(&self, id: &str) -> usize {
        let text = fs::read_to_string(self.path("mark")).unwrap_or_default();
        text.lines().filter(|line| *line == id).count()
    }

    fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        let data = self.server.data();
        let mut command = Command::new(BINARY);
        command.args(arguments).arg("--data").arg(data);
        said(command.current_dir(self.server.folder()))
    }

    /// Exit code and findings as (level, kind).
    fn check(&self) -> (i32, Vec<(String, String)>) {
        let (code, out, err) = self.run(&["--json", "check"]);
        let answer: Value = serde_json::from_str(&out).unwrap_or_else(|_| panic!("{code} {err}"));
        let word = |found: &Value, key: &str| found[key].as_str().unwrap().to_owned();
        let findings = answer["findings"].as_array().unwrap().iter();
        let pairs = findings.map(|found| (word(found, "level"), word(found, "kind")));
        (code, pairs.collect())
    }

    fn finds(&self, code: i32, level: &str, kind: &str) {
        let expected = vec![(level.to_owned(), kind.to_owned())];
        assert_eq!(self.check(), (code, expected));
        let (_, table, _) = self.run(&["check"]);
        assert!(
            table.to_lowercase().contains(level) && table.contains(kind),
            "{table}"
        );
    }

    fn attempt_file(&self, id: &str, name: &str) -> PathBuf {
        self.server.job_folder(id).join("attempts/1").join(name)
    }
}

fn said(command: &mut Command) -> (i32, String, String) {
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let code = output.status.code().unwrap_or(-1);
    (code, text(&output.stdout), text(&output.stderr))
}

/// Changes a file for as long as `look` looks.
fn with_changed(path: &Path, change: impl FnOnce(&str) -> String, look: impl FnOnce()) {
    let before = fs::read_to_string(path).unwrap();
    let after = change(&before);
    assert_ne!(before, after);
    fs::write(path, after).unwrap();
    look();
    fs::write(path, before).unwrap();
}

#[tokio::test]
async fn a_sound_folder_has_no_findings_also_while_the_server_is_at_work() {
    let scene = Scene::start();
    let mut ids = Vec::new();
    for code in [0, 3, 0, 0, 0, 0, 0, 0, 0, 0] {
        ids.push(scene.submit(code).await);
        let (code, found) = scene.check();
        assert!(
            code == 0 && found.iter().all(|(level, _)| level == "note"),
            "{found:?}"
        );
    }
    for id in &ids {
        scene.server.wait(id).await;
    }
    assert_eq!(scene.check(), (0, Vec::new()));
    let (code, line, _) = scene.run(&["check"]);
    assert!(code == 0 && line.contains("agree"), "{line}");
}

#[tokio::test]
async fn what_the_folders_say_against_the_store_is_found() {
    let mut scene = Scene::start();
    let (good, failed) = (scene.submit(0).await, scene.submit(3).await);
    scene.server.wait(&failed).await;
    scene.server.terminate();
    for id in [&good, &failed] {
        let exit = scene.attempt_file(id, "exit.json");
        let other = |text: &str| text.replace("\"code\": ", "\"code\": 4");
        with_changed(&exit, other, || scene.finds(7, "failed", "other_exit"));
        with_changed(
            &exit,
            |_| String::new(),
            || {
                let (code, found) = scene.check();
                let damaged = ("failed".to_owned(), "damaged_record".to_owned());
                assert!(code == 7 && found.contains(&damaged), "{found:?}");
            },
        );
    }
    let output = scene.attempt_file(&good, "output");
    fs::rename(&output, scene.path("aside")).unwrap();
    scene.finds(7, "failed", "missing_output");
    fs::rename(scene.path("aside"), &output).unwrap();
    let upload = scene.server.data().join("uploads").join(&good);
    fs::create_dir(&upload).unwrap();
    scene.finds(0, "note", "left_upload");
    fs::remove_dir(&upload).unwrap();
    let stranger = "0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b";
    fs::create_dir_all(scene.server.job_folder(stranger)).unwrap();
    scene.finds(0, "note", "unknown_job");
    scene.server.restart();
}

#[tokio::test]
async fn a_running_job_without_its_folder_and_one_that_has_ended_are_found() {
    let mut scene = Scene::start();
    let gate = scene.path("gate");
    let id = scene.server.submit("gated", &json!({"gate": gate})).await;
    scene.server.until(&id, "running").await;
    assert_eq!(scene.check(), (0, Vec::new()));
    scene.server.kill();
    fs::write(&gate, "").unwrap();
    exists(&scene.attempt_file(&id, "exit.json")).await;
    scene.finds(0, "note", "unfinished");
    fs::rename(scene.server.job_folder(&id), scene.path("aside")).unwrap();
    scene.finds(7, "failed", "missing_folder");
}

#[tokio::test]
async fn a_check_changes_nothing() {
    let mut scene = Scene::start();
    let id = scene.submit(0).await;
    scene.server.wait(&id).await;
    scene.server.kill();
    let files = ["onelane.db", "onelane.db-wal"].map(|name| scene.server.data().join(name));
    let before = files.clone().map(|path| fs::read(path).unwrap());
    assert_eq!(scene.check(), (0, Vec::new()));
    assert!(files.map(|path| fs::read(path).unwrap()) == before);
}

#[tokio::test]
async fn a_backup_is_whole_and_replaces_nothing_unless_that_is_wished() {
    let mut scene = Scene::start();
    let id = scene.submit(0).await;
    scene.server.wait(&id).await;
    let file = scene.path("backup.db");
    let backup = ["backup", file.to_str().unwrap()];
    let (code, out, err) = scene.run(&backup);
    assert!(code == 0 && out.contains("backup.db"), "{out}{err}");
    let (code, _, err) = scene.run(&backup);
    assert!(code == 9 && err.contains("--force"), "{code} {err}");
    let (code, _, err) = scene.run(&[&backup[..], &["--force"]].concat());
    assert_eq!(code, 0, "{err}");
    let database = scene.server.data().join("onelane.db");
    let itself = ["backup", "--force", database.to_str().unwrap()];
    let (code, _, err) = scene.run(&itself);
    assert!(code == 9 && err.contains("itself"), "{code} {err}");
    // What a server makes of it.
    scene.server.kill();
    let (code, out, err) = scene.run(&["restore", file.to_str().unwrap()]);
    assert!(code == 0 && out.contains("replaced-1"), "{out}{err}");
    scene.server.restart();
    assert_eq!(scene.server.wait(&id).await["state"], "succeeded");
    assert_eq!(scene.check(), (0, Vec::new()));
    assert!(scene.server.data().join("replaced-1/onelane.db").exists());
}

#[tokio::test]
async fn no_job_that_ran_since_the_backup_runs_again() {
    let mut scene = Scene::start();
    scene.queue("pause").await;
    let mut ran = Vec::new();
    for code in [0, 3, 0] {
        ran.push(scene.submit(code).await);
    }
    let file = scene.path("backup.db");
    let file = file.to_str().unwrap();
    assert_eq!(scene.run(&["backup", file]).0, 0);
    scene.queue("resume").await;
    for id in &ran {
        scene.server.wait(id).await;
    }
    let newer = scene.submit(0).await;
    scene.server.wait(&newer).await;
    let (code, _, err) = scene.run(&["restore", file]);
    assert!(code == 9 && err.contains("in use"), "{code} {err}");
    scene.server.terminate();
    let (code, out, err) = scene.run(&["--json", "restore", file]);
    assert_eq!(code, 0, "{err}");
    let report: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        report["newer"],
        json!({"unknown": [newer], "ran_since": ran})
    );
    scene.server.restart();
    let waiting = scene.server.get(&format!("/api/v1/jobs/{}", ran[0])).await;
    assert_eq!(
        waiting["state"], "queued",
        "the backup was made of a paused queue"
    );
    scene.queue("resume").await;
    for (id, state) in ran.iter().zip(["succeeded", "failed", "succeeded"]) {
        let job = scene.server.wait(id).await;
        assert_eq!(
            (&job["state"], &job["attempt"]),
            (&json!(state), &json!(1)),
            "{job}"
        );
        assert_eq!(scene.marks(id), 1, "it ran once");
    }
    let url = scene.server.url(&format!("/api/v1/jobs/{newer}"));
    assert_eq!(
        scene.server.http.get(url).send().await.unwrap().status(),
        404
    );
    let next = scene.submit(0).await;
    assert_eq!(scene.server.wait(&next).await["state"], "succeeded");
}

#[tokio::test]
async fn an_attempt_that_had_begun_and_not_ended_is_interrupted_not_forgotten() {
    let mut scene = Scene::start();
    scene.queue("pause").await;
    let gate = scene.path("gate");
    let id = scene.server.submit("gated", &json!({"gate": gate})).await;
    let file = scene.path("backup.db");
    let file = file.to_str().unwrap();
    assert_eq!(scene.run(&["backup", file]).0, 0);
    scene.queue("resume").await;
    scene.server.until(&id, "running").await;
    scene.server.kill();
    let (code, _, err) = scene.run(&["restore", file]);
    assert!(
        code == 9 && err.contains("still run") && err.contains(&id),
        "{code} {err}"
    );
    // As after a power cut: nothing has ended well, and the boot was another.
    fs::write(&gate, "").unwrap();
    exists(&scene.attempt_file(&id, "exit.json")).await;
    // The supervisors let go of the lock a moment after the record.
    let restored = (0..1000).any(|_| scene.run(&["restore", file]).0 == 0);
    assert!(restored);
    fs::remove_file(scene.attempt_file(&id, "exit.json")).unwrap();
    let shim = scene.attempt_file(&id, "shim.json");
    let mut record: Value = serde_json::from_slice(&fs::read(&shim).unwrap()).unwrap();
    record["boot_id"] = json!("another");
    fs::write(&shim, record.to_string()).unwrap();
    scene.server.restart();
    scene.queue("resume").await;
    let job = scene.server.wait(&id).await;
    assert_eq!(
        (&job["state"], &job["attempt"]),
        (&json!("succeeded"), &json!(2)),
        "{job}"
    );
    let attempts = scene
        .server
        .get(&format!("/api/v1/jobs/{id}/attempts"))
        .await;
    assert_eq!(
        attempts["attempts"][0]["outcome"], "interrupted",
        "{attempts}"
    );
}

#[tokio::test]
async fn a_restore_refuses_what_is_no_backup_or_of_another_folder() {
    let mut scene = Scene::start();
    let id = scene.submit(0).await;
    scene.server.wait(&id).await;
    let file = scene.path("backup.db");
    let file = file.to_str().unwrap();
    assert_eq!(scene.run(&["backup", file]).0, 0);
    scene.server.kill();
    let database = scene.server.data().join("onelane.db");
    let (code, _, err) = scene.run(&["restore", database.to_str().unwrap()]);
    assert!(code == 9 && err.contains("no backup"), "{code} {err}");
    let mut other = Scene::start();
    other.server.kill();
    let (code, _, err) = other.run(&["restore", file]);
    assert!(
        code == 9 && err.contains("another data folder"),
        "{code} {err}"
    );
    assert_eq!(other.run(&["restore", "--force", file]).0, 0);
    let mut bytes = fs::read(file).unwrap();
    bytes[5000..9000].fill(0xa5);
    fs::write(file, bytes).unwrap();
    let (code, _, err) = scene.run(&["restore", file]);
    assert!(code != 0 && err.contains("damaged"), "{code} {err}");
    assert!(!scene.server.data().join("replaced-1").exists());
}

/// A new folder from a backup: the store is whole, and what ran is told as lost rather than run again.
#[tokio::test]
async fn a_backup_makes_a_folder_anew_with_the_same_id() {
    let mut scene = Scene::start();
    let id = scene.submit(0).await;
    scene.server.wait(&id).await;
    let file = scene.path("backup.db");
    let file = file.to_str().unwrap();
    assert_eq!(scene.run(&["backup", file]).0, 0);
    scene.server.kill();
    let instance = fs::read(scene.server.data().join("instance.json")).unwrap();
    fs::rename(scene.server.data(), scene.path("lost")).unwrap();
    assert_eq!(scene.run(&["restore", file]).0, 0);
    assert_eq!(
        fs::read(scene.server.data().join("instance.json")).unwrap(),
        instance
    );
    scene.server.restart();
    let job = scene.server.wait(&id).await;
    assert_eq!((&job["state"], scene.marks(&id)), (&json!("succeeded"), 1));
    scene.finds(7, "failed", "missing_output");
}

/// Each damage of a database, with a word of what the server says.
fn damages(sound: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let changed = |change: fn(&mut Vec<u8>)| {
        let mut bytes = sound.to_vec();
        change(&mut bytes);
        bytes
    };
    vec![
        ("missing or empty", Vec::new()),
        ("damaged", changed(|bytes| bytes.truncate(bytes.len() / 2))),
        (
            "damaged",
            changed(|bytes| bytes.truncate(bytes.len() - 100)),
        ),
        ("damaged", changed(|bytes| bytes[3] ^= 0x40)),
        ("damaged", changed(|bytes| bytes[100..200].fill(0xff))),
        ("damaged", changed(|bytes| bytes[4096..12288].fill(0))),
        ("damaged", changed(|bytes| bytes[20000..26000].fill(0xa5))),
        (
            "newer",
            changed(|bytes| bytes[60..64].copy_from_slice(&99_u32.to_be_bytes())),
        ),
        ("not an Onelane", changed(|bytes| bytes[68..72].fill(0))),
    ]
}

#[tokio::test]
async fn a_server_refuses_a_damaged_database_says_what_to_do_and_changes_nothing() {
    let mut scene = Scene::start();
    let id = scene.submit(0).await;
    scene.server.wait(&id).await;
    let file = scene.path("backup.db");
    assert_eq!(scene.run(&["backup", file.to_str().unwrap()]).0, 0);
    scene.server.kill();
    let database = scene.server.data().join("onelane.db");
    for end in ["-wal", "-shm"] {
        fs::remove_file(format!("{}{end}", database.display())).unwrap();
    }
    let serve = ["serve", "--listen", "127.0.0.1:0"];
    for (number, (word, bytes)) in damages(&fs::read(&file).unwrap()).into_iter().enumerate() {
        fs::write(&database, &bytes).unwrap();
        let (code, _, err) = scene.run(&serve);
        assert!(code == 10 && err.contains(word), "{number} {code} {err}");
        assert!(fs::read(&database).unwrap() == bytes, "{number}");
        if !bytes.is_empty() {
            let (code, found) = scene.check();
            assert!(
                code == 7 && found.iter().all(|(_, kind)| kind == "database"),
                "{found:?}"
            );
        }
    }
    fs::remove_file(&database).unwrap();
    let (code, _, err) = scene.run(&serve);
    assert!(
        code == 10 && err.contains("onelane restore"),
        "{code} {err}"
    );
    assert_eq!(scene.run(&["restore", file.to_str().unwrap()]).0, 0);
    scene.server.restart();
    assert_eq!(scene.server.wait(&id).await["state"], "succeeded");
}
