//! What a tools file can say, with real processes: environment, secrets, standard input, success, progress, reload.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use onelane_testkit::{LONG, TestServer};
use serde_json::json;

use crate::BINARY;

#[tokio::test]
async fn a_secret_reaches_the_tool_and_no_file_of_the_servers() {
    let secret = tempfile::tempdir().unwrap();
    let path = secret.path().join("token");
    fs::write(&path, "swordfish-4711\n").unwrap();
    let text = format!(
        "[tools.t]\ncommand = [\"sh\", \"-c\", 'test \"$TOKEN\" = \"$(printf swordfish-; expr 4700 + 11)\" && test \"$PLAIN\" = yes && pwd']\nworkdir = \"{}\"\n\
         env = {{ PLAIN = \"yes\", TOKEN = {{ file = \"{}\" }} }}",
        secret.path().display(),
        path.display()
    );
    let server = TestServer::start(BINARY, Some(&text));
    let id = server.submit("t", &json!({})).await;
    let job = server.wait(&id).await;
    assert_eq!(job["state"], "succeeded", "{job}");
    let said = fs::read_to_string(server.job_folder(&id).join("attempts/1/stdout.log")).unwrap();
    assert_eq!(
        said.trim(),
        secret.path().canonicalize().unwrap().to_str().unwrap()
    );
    let output = std::process::Command::new("grep")
        .args(["-rl", "swordfish-4711"])
        .arg(server.data())
        .output()
        .unwrap();
    assert_eq!(
        output.status.code(),
        Some(1),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
    fs::remove_file(&path).unwrap();
    let id = server.submit("t", &json!({})).await;
    let job = server.wait(&id).await;
    assert_eq!(job["failure"]["kind"], "start_failed", "{job}");
    assert!(
        job["failure"]["message"]
            .as_str()
            .unwrap()
            .contains("TOKEN"),
        "{job}"
    );
}

/// The kernel has one error for all three: no such file or directory.
#[tokio::test]
async fn a_program_that_cannot_start_is_told_from_what_it_lacks() {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("script");
    fs::write(&script, "#!/nonexistent/python\n").unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let tools = format!(
        "[tools.missing]\ncommand = [\"/nonexistent/program\"]\n\
         [tools.interpreter]\ncommand = [\"{}\"]\n\
         [tools.folder]\ncommand = [\"true\"]\nworkdir = \"/nonexistent/folder\"\n\
         [tools.true]\ncommand = [\"true\"]\n",
        script.display()
    );
    let server = TestServer::start(BINARY, Some(&tools));
    // The first one is started by itself, those after `true` by the spare that waits for them.
    for tool in [
        "missing",
        "interpreter",
        "folder",
        "true",
        "missing",
        "interpreter",
        "folder",
    ] {
        let id = server.submit(tool, &json!({})).await;
        let job = server.wait(&id).await;
        let expected = match tool {
            "missing" => "it was not found",
            "interpreter" => "the interpreter in its first line",
            "folder" => "`/nonexistent/folder`",
            _ => continue,
        };
        assert_eq!(job["failure"]["kind"], "start_failed", "{job}");
        let message = job["failure"]["message"].as_str().unwrap();
        assert!(message.contains(expected), "{message}");
    }
}

/// The guide's tables of what a command gets name all of it.
#[tokio::test]
async fn the_guide_names_every_variable_and_placeholder() {
    const GUIDE: &str = include_str!("../../../../docs/add-a-tool.md");
    let tools = "[tools.env]\ncommand = [\"env\"]\n\
                 [tools.wrong]\ncommand = [\"echo\", \"{no-such-place}\"]\n";
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("onelane.toml");
    fs::write(&file, tools).unwrap();
    let output = std::process::Command::new(BINARY)
        .args(["config", "check"])
        .arg(&file)
        .output()
        .unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    let known = told.split_once("known here: ").unwrap().1;
    let places: Vec<_> = known.split('`').skip(1).step_by(2).collect();
    assert!(places.len() >= 6, "{told}");
    for place in places {
        let place = place.trim_matches(['{', '}']);
        assert!(GUIDE.contains(&format!("`{{{place}}}`")), "{{{place}}}");
    }
    let server = TestServer::start(BINARY, Some("[tools.env]\ncommand = [\"env\"]\n"));
    let id = server.submit("env", &json!({})).await;
    server.wait(&id).await;
    let printed = fs::read_to_string(server.job_folder(&id).join("attempts/1/stdout.log")).unwrap();
    let names: Vec<_> = printed
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, _)| name)
        .filter(|name| name.starts_with("ONELANE_"))
        .collect();
    assert!(names.len() >= 6, "{printed}");
    for name in names {
        assert!(GUIDE.contains(&format!("`{name}`")), "{name}");
    }
}

#[tokio::test]
async fn a_run_is_judged_by_its_codes_and_by_what_it_leaves() {
    let server = TestServer::start(
        BINARY,
        Some(
            "[tools.t]\ncommand = [\"sh\", \"-c\", 'test \"$1\" = yes && echo x > \"$ONELANE_OUTPUT/hits.tsv\"; exit $0', \"{code}\", \"{leave}\"]\n\
             success = { exit_codes = [0, 1] }\nexit_codes = { 3 = \"no luck\" }\nresults.hits = { file = \"hits.tsv\", required = true, view = \"table\" }\n\
             params.code = { type = \"integer\", default = 0 }\nparams.leave = { type = \"choice\", choices = [\"yes\", \"no\"], default = \"yes\" }",
        ),
    );
    for (code, leave, state, message) in [
        (0, "yes", "succeeded", ""),
        (1, "yes", "succeeded", ""),
        (2, "yes", "failed", "exit code 2"),
        (3, "yes", "failed", "no luck"),
        (0, "no", "failed", "without its result `hits.tsv`"),
        (1, "no", "failed", "without its result `hits.tsv`"),
    ] {
        let id = server
            .submit("t", &json!({"code": code, "leave": leave}))
            .await;
        let job = server.wait(&id).await;
        assert_eq!(job["state"], state, "{code} {leave}: {job}");
        assert_eq!(job["exit_code"], code, "{job}");
        let told = job["failure"]["message"].as_str().unwrap_or_default();
        assert!(told.contains(message), "{code} {leave}: {job}");
    }
}

#[tokio::test]
async fn a_sequence_parameter_is_read_on_standard_input() {
    let server = TestServer::start(
        BINARY,
        Some("[tools.t]\ncommand = [\"cat\"]\nstdin = \"{query}\"\nparams.query.type = \"fasta\""),
    );
    let id = server.submit("t", &json!({"query": ">a\nAC DE\n"})).await;
    assert_eq!(server.wait(&id).await["state"], "succeeded");
    let said = fs::read_to_string(server.job_folder(&id).join("attempts/1/stdout.log")).unwrap();
    assert_eq!(said, ">a\nACDE\n");
}

#[tokio::test]
async fn progress_is_read_off_standard_error() {
    // It waits for the test to have seen the first figure, and then for the second.
    let server = TestServer::start(
        BINARY,
        Some(
            "[tools.t]\ncommand = [\"sh\", \"-c\", 'printf \"\\r 25%%\" >&2; until test -e go; do sleep 0.05; done; printf \"\\r 75.5%%\" >&2; until test -e end; do sleep 0.05; done']\n\
             progress = { pattern = \"([0-9.]+)%\", scale = 100 }",
        ),
    );
    let id = server.submit("t", &json!({})).await;
    for (fraction, file) in [(0.25, "go"), (0.755, "end")] {
        let since = std::time::Instant::now();
        loop {
            let job = server.get(&format!("/api/v1/jobs/{id}")).await;
            if job["progress"]["fraction"] == json!(fraction) {
                break;
            }
            assert!(since.elapsed() < LONG, "{job}");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        fs::write(
            server.job_folder(&id).join("attempts/1/work").join(file),
            "",
        )
        .unwrap();
    }
    assert_eq!(server.wait(&id).await["state"], "succeeded");
}

const BEFORE: &str = "[tools.gate]\ncommand = [\"sh\", \"-c\", 'until test -e \"$ONELANE_OUTPUT/go\"; do sleep 0.05; done']\n\
                      [tools.t]\ncommand = [\"echo\", \"old\"]\n[tools.gone]\ncommand = [\"true\"]";

#[tokio::test]
async fn a_reload_changes_the_tools_and_no_job_that_waits() {
    let server = TestServer::start(BINARY, Some(BEFORE));
    let file = server.folder().join("onelane.toml");
    let gate = server.submit("gate", &json!({})).await;
    let waiting = server.submit("t", &json!({})).await;
    let gone = server.submit("gone", &json!({})).await;
    server.until(&gate, "running").await;
    // A file with mistakes says them all and changes nothing.
    fs::write(
        &file,
        "[tools.t]\ncomand = [\"x\"]\n[tools.u]\ncommand = [\"{x}\"]",
    )
    .unwrap();
    let (status, problem) = server.post("/api/v1/tools/reload", &json!({})).await;
    assert_eq!(
        (status, &problem["code"]),
        (422, &json!("bad_tools_file")),
        "{problem}"
    );
    assert!(
        problem["errors"].as_array().unwrap().len() >= 2,
        "{problem}"
    );
    assert_eq!(problem["errors"][0]["line"], 2);
    assert_eq!(
        server.get("/api/v1/tools").await["tools"]
            .as_array()
            .unwrap()
            .len(),
        3
    );
    // A sound one is in force at once.
    let after = BEFORE
        .replace("\"old\"", "\"new\"")
        .replace("[tools.gone]", "[tools.fresh]");
    fs::write(&file, after).unwrap();
    let (status, report) = server.post("/api/v1/tools/reload", &json!({})).await;
    assert_eq!(status, 200, "{report}");
    assert_eq!(
        report,
        json!({"tools": ["gate", "t", "fresh"], "added": ["fresh"], "changed": ["t"], "removed": ["gone"], "warnings": []})
    );
    let new = server.submit("t", &json!({})).await;
    let (status, _) = server.post("/api/v1/tools/gone/jobs", &json!({})).await;
    assert_eq!(status, 404);
    fs::write(server.job_folder(&gate).join("attempts/1/output/go"), "").unwrap();
    for (id, said) in [(&waiting, "old\n"), (&new, "new\n"), (&gone, "")] {
        assert_eq!(server.wait(id).await["state"], "succeeded");
        let log = fs::read_to_string(server.job_folder(id).join("attempts/1/stdout.log")).unwrap();
        assert_eq!(log, said);
    }
}

#[tokio::test]
async fn a_hangup_reloads_too_and_a_server_without_a_file_says_so() {
    let server = TestServer::start(BINARY, Some(BEFORE));
    fs::write(
        server.folder().join("onelane.toml"),
        BEFORE.replace("[tools.gone]", "[tools.fresh]"),
    )
    .unwrap();
    kill(Pid::from_raw(server.pid().cast_signed()), Signal::SIGHUP).unwrap();
    let since = std::time::Instant::now();
    while server
        .http
        .get(server.url("/api/v1/tools/fresh"))
        .send()
        .await
        .unwrap()
        .status()
        != 200
    {
        assert!(since.elapsed() < LONG);
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let plain = TestServer::start(BINARY, None);
    let (status, problem) = plain.post("/api/v1/tools/reload", &json!({})).await;
    assert_eq!(
        (status, &problem["code"]),
        (409, &json!("no_tools_file")),
        "{problem}"
    );
}

#[tokio::test]
async fn a_listing_tells_size_hash_type_and_view_of_each_file() {
    let server = TestServer::start(
        BINARY,
        Some(
            "[tools.t]\ncommand = [\"sh\", \"-c\", 'cd \"$ONELANE_OUTPUT\"; printf abc > hits.m8; echo > page.html; truncate -s 3G large.bin']\n\
             results.hits = { file = \"hits.m8\", title = \"Hits\", view = \"table\", media_type = \"text/x-hits\" }\n\
             results.page = { file = \"page.html\", view = \"html\", media_type = \"text/html\" }",
        ),
    );
    let id = server.submit("t", &json!({})).await;
    assert_eq!(server.wait(&id).await["state"], "succeeded");
    // Three gigabytes take far longer than an answer: theirs is missing at first, and nobody waits for it.
    let list = server.get(&format!("/api/v1/jobs/{id}/files")).await;
    let files = list["files"].as_array().unwrap();
    let (hits, large, page) = (&files[0], &files[1], &files[2]);
    assert_eq!(
        hits["sha256"], "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        "{list}"
    );
    assert_eq!(
        (&hits["size_bytes"], &hits["media_type"]),
        (&json!(3), &json!("text/x-hits"))
    );
    assert_eq!(
        (&hits["result"], &hits["title"], &hits["view"]),
        (&json!("hits"), &json!("Hits"), &json!("table"))
    );
    assert_eq!(
        (&large["result"], &large["sha256"]),
        (&json!(null), &json!(null)),
        "{list}"
    );
    assert_eq!(page["view"], "html");
    for (file, kind) in [
        ("hits.m8", "text/x-hits"),
        ("page.html", "text/plain; charset=utf-8"),
    ] {
        let answer = server
            .http
            .get(server.url(&format!("/api/v1/jobs/{id}/files/{file}")))
            .send()
            .await
            .unwrap();
        assert_eq!(answer.headers()["content-type"], kind);
    }
    let tool = server.get("/api/v1/tools/t").await;
    assert_eq!(tool["results"][0]["view"], "table");
}

/// The page about GPUs says that it is untested; its tools file is sound at least.
#[test]
fn the_tools_file_of_the_page_about_gpus_has_no_mistakes() {
    let page = include_str!("../../../../docs/gpu-tools.md");
    let text = page
        .split("```toml\n")
        .nth(1)
        .unwrap()
        .split("```")
        .next()
        .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("onelane.toml");
    fs::write(&file, text).unwrap();
    let output = std::process::Command::new(BINARY)
        .args(["config", "check"])
        .arg(&file)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(
        page.contains("**Untested.**")
            && text.matches("# ").count() == text.matches("Untested.").count()
    );
}
