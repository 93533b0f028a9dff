//! A job that takes all of the machine's memory: the server stays up, and the job is the one that goes.

use onelane_testkit::TestServer;
use serde_json::json;

use crate::BINARY;
use crate::levels::levels;

const TOOLS: &str = r#"
[tools.eater]
command = ["python3", "-c", "import time\nkept = []\nfor i in range(2000):\n    kept.append(bytearray(b'x' * (8 << 20)))\n    time.sleep(0.005)"]
"#;

/// A small machine: a memory group for the server and all that it starts.
struct SmallMachine(std::path::PathBuf);

impl SmallMachine {
    fn new(bytes: u64) -> Option<Self> {
        let own = std::fs::read_to_string("/proc/self/cgroup").ok()?;
        let own = own.lines().find_map(|line| line.split_once(":memory:"))?.1;
        let home = std::path::Path::new("/sys/fs/cgroup/memory").join(own.trim_start_matches('/'));
        let small = Self(home.join(format!("onelane-small-machine-{}", std::process::id())));
        std::fs::create_dir(&small.0).ok()?;
        std::fs::write(small.0.join("memory.limit_in_bytes"), bytes.to_string()).ok()?;
        Some(small)
    }

    fn take(&self, server: &TestServer) {
        std::fs::write(self.0.join("cgroup.procs"), server.pid().to_string()).unwrap();
    }
}

impl Drop for SmallMachine {
    fn drop(&mut self) {
        std::fs::remove_dir(&self.0).ok();
    }
}

#[tokio::test]
async fn a_job_that_takes_all_memory_ends_and_the_server_goes_on_answering() {
    let Some(machine) = SmallMachine::new(512 << 20) else {
        eprintln!("SKIPPED: no memory group of version 1 to make a small machine with");
        return;
    };
    for level in levels() {
        let server = TestServer::start_with(BINARY, Some(TOOLS), &["--process-control", level]);
        machine.take(&server);
        let pid = server.pid();
        let id = server.submit("eater", &json!({})).await;
        let job = server.wait(&id).await;
        assert_eq!(job["failure"]["kind"], "out_of_memory", "{level}: {job}");
        assert!(
            job["failure"]["message"]
                .as_str()
                .unwrap()
                .contains("machine ran out of memory"),
            "{job}"
        );
        assert_eq!(server.get("/api/v1/queue").await["backlog"], 0);
        assert_eq!(server.pid(), pid, "the same server");
    }
}
