"""The systems under observation: how each is started, told, asked, killed and started again."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))


def command(folder, name, rounds):
    return [sys.executable, f"{HERE}/work.py", folder, name, str(rounds)]


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class System:
    """Servers are child processes in sessions of their own; `kill` is kill -9 of them all, and of nothing else."""

    def __init__(self, folder):
        self.folder, self.port, self.servers = folder, free_port(), []
        self.env = dict(os.environ, KILL9_FOLDER=folder, KILL9_PORT=str(self.port))

    def spawn(self, *words, env=None):
        log = open(f"{self.folder}/server.log", "a")
        server = subprocess.Popen(words, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True,
                                  env=env or self.env, cwd=self.folder)
        self.servers.append(server)

    def kill(self):
        for server in self.servers:
            server.kill()
            server.wait()
        self.servers = []

    def call(self, *words):
        done = subprocess.run(words, env=self.env, capture_output=True, text=True, timeout=60)
        return done.stdout + done.stderr

    def until(self, is_there):
        for _ in range(600):
            try:
                if is_there():
                    return
            except OSError:
                pass
            time.sleep(0.05)
        raise SystemExit(f"{type(self).__name__} does not start; see {self.folder}/server.log")

    def restart(self):
        self.start()

    def stop(self):
        """All that this run has started, by the folder's name in its environment."""
        for pid in pids(lambda words, pid: pid != os.getpid() and in_environ(pid, self.folder)):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass


class Onelane(System):
    """Started again as another build."""

    def start(self, binary=None):
        tools = f"""
[tools.work]
command = {json.dumps([sys.executable, HERE + "/work.py", self.folder, "{job}", "{rounds}"])}
params.job = {{ type = "text" }}
params.rounds = {{ type = "integer" }}
"""
        with open(f"{self.folder}/onelane.toml", "w") as file:
            file.write(tools)
        binary = binary or os.environ["ONELANE"]
        self.spawn(binary, "serve", "--config", f"{self.folder}/onelane.toml", "--data", f"{self.folder}/data",
                   "--listen", f"127.0.0.1:{self.port}")
        self.until(lambda: self.ask("/healthz"))

    def restart(self):
        self.start(os.environ["ONELANE_NEXT"])

    def ask(self, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data,
                                         {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.read()

    def submit(self, name, rounds):
        return json.loads(self.ask("/api/v1/tools/work/jobs", {"job": name, "rounds": rounds}))["id"]

    def state(self, job):
        state = json.loads(self.ask(f"/api/v1/jobs/{job}"))["state"]
        return {"succeeded": "done", "failed": "failed", "cancelled": "failed", "queued": "waits"}.get(state, "runs")

    def log(self, job):
        return self.ask(f"/api/v1/jobs/{job}/logs/stdout").decode()

    def cancel(self, job):
        self.ask(f"/api/v1/jobs/{job}/cancel", {})


class Tsp(System):
    """task-spooler: the server is started by the first submission."""

    def start(self):
        self.env["TS_SOCKET"] = f"{self.folder}/tsp.socket"
        self.env["TMPDIR"] = self.folder
        self.call("tsp")

    def kill(self):
        # The server has no arguments; the others are clients that wait for their turn.
        for pid in pids(lambda words, pid: words == ["tsp", ""] and in_environ(pid, self.folder)):
            os.kill(pid, signal.SIGKILL)
        if os.path.exists(self.env["TS_SOCKET"]):
            os.remove(self.env["TS_SOCKET"])

    def submit(self, name, rounds):
        return self.call("tsp", *command(self.folder, name, rounds)).strip()

    def state(self, job):
        for line in self.call("tsp").splitlines():
            words = line.split()
            if words[:1] == [job]:
                done = "done" if len(words) > 3 and words[3] == "0" else "failed"
                return {"running": "runs", "queued": "waits", "finished": done}.get(words[1], words[1])
        return "unknown"

    def log(self, job):
        return self.call("tsp", "-c", job)

    def cancel(self, job):
        self.call("tsp", "-k", job)


class Pueue(System):
    def start(self):
        config = f"{self.folder}/pueue.yml"
        with open(config, "w") as file:
            file.write(f"""
shared:
  pueue_directory: {self.folder}/pueue
  runtime_directory: {self.folder}/pueue
  use_unix_socket: true
client: {{}}
daemon: {{ default_parallel_tasks: 1 }}
""")
        os.makedirs(f"{self.folder}/pueue", exist_ok=True)
        self.pueue = ["pueue", "-c", config]
        self.spawn("pueued", "-c", config)
        self.until(lambda: "error" not in self.call(*self.pueue, "status").lower())

    def restart(self):
        self.start()
        # It comes back with its groups paused, where something ran; a person would resume them.
        self.call(*self.pueue, "start", "--all")

    def submit(self, name, rounds):
        words = command(self.folder, name, rounds)
        return self.call(*self.pueue, "add", "--print-task-id", "--", *words).strip()

    def state(self, job):
        tasks = json.loads(self.call(*self.pueue, "status", "--json"))["tasks"]
        status = json.dumps(tasks.get(job, {}).get("status", "unknown"))
        if "Success" in status:
            return "done"
        if "Done" in status:
            return "failed"
        return "runs" if "Running" in status else "waits" if "ueued" in status else status

    def log(self, job):
        return self.call(*self.pueue, "log", "--full", job)

    def cancel(self, job):
        self.call(*self.pueue, "kill", job)


class Celery(System):
    """A worker of one process on Redis, with defaults but for one at a time. Redis stays up: the worker's main process
    is killed, and of its pool nothing, as the kernel's own killer does."""

    late = ""

    def start(self):
        self.env["KILL9_LATE"] = self.late
        self.env["PYTHONPATH"] = HERE
        subprocess.Popen(["redis-server", "--port", str(self.port), "--dir", self.folder, "--appendonly", "yes",
                          "--appendfsync", "always"], stdout=subprocess.DEVNULL, env=self.env, start_new_session=True)
        self.until(lambda: socket.create_connection(("127.0.0.1", self.port)).close() is None)
        os.environ.update(KILL9_LATE=self.late, KILL9_PORT=str(self.port), KILL9_FOLDER=self.folder)
        import celery_tasks
        self.tasks = celery_tasks
        self.restart()

    def restart(self):
        self.spawn(sys.executable, "-m", "celery", "-A", "celery_tasks", "worker", "--concurrency", "1")

    def submit(self, name, rounds):
        return self.tasks.work.delay(name, rounds).id

    def result(self, job):
        return self.tasks.app.AsyncResult(job)

    def state(self, job):
        state = self.result(job).state
        return {"SUCCESS": "done", "FAILURE": "failed", "REVOKED": "failed", "STARTED": "runs"}.get(state, "waits")

    def log(self, job):
        return self.result(job).result if self.state(job) == "done" else ""

    def cancel(self, job):
        self.tasks.app.control.revoke(job, terminate=True)


class CeleryLate(Celery):
    """`acks_late`, `reject_on_worker_lost`, and a visibility timeout that is a little longer than the longest job."""

    late = "1"


class Beanstalkd(System):
    """beanstalkd with its binlog and a consumer of ten lines; both are killed."""

    def start(self):
        os.makedirs(f"{self.folder}/binlog", exist_ok=True)
        self.spawn("beanstalkd", "-l", "127.0.0.1", "-p", str(self.port), "-b", f"{self.folder}/binlog", "-f", "0")
        self.until(lambda: socket.create_connection(("127.0.0.1", self.port)).close() is None)
        self.spawn(sys.executable, f"{HERE}/beanstalk_consumer.py")

    def client(self):
        import greenstalk
        return greenstalk.Client(("127.0.0.1", self.port))

    def submit(self, name, rounds):
        with self.client() as client:
            return str(client.put(json.dumps(command(self.folder, name, rounds)), ttr=600))

    def state(self, job):
        import greenstalk
        try:
            with self.client() as client:
                state = client.stats_job(int(job))["state"]
                return {"reserved": "runs", "ready": "waits"}.get(state, "failed")
        except greenstalk.NotFoundError:
            # It forgets what is over; the consumer keeps the output.
            return "done" if os.path.exists(f"{self.folder}/output-{job}") else "unknown"

    def log(self, job):
        path = f"{self.folder}/output-{job}"
        return open(path).read() if os.path.exists(path) else ""

    cancel = None


SYSTEMS = {"onelane": Onelane, "celery": Celery, "celery-late": CeleryLate, "tsp": Tsp, "pueue": Pueue,
           "beanstalkd": Beanstalkd}


def pids(wanted):
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/cmdline", "rb") as file:
                words = file.read().decode(errors="replace").split("\0")
        except OSError:
            continue
        if wanted(words, int(name)):
            found.append(int(name))
    return found


def in_environ(pid, text):
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return re.search(re.escape(text).encode(), file.read()) is not None
    except OSError:
        return False
