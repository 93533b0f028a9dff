"""kill -9 of the server in the middle of a job, start it again, and look from outside.

observe.py SYSTEM…      prints one column a system. What is counted comes from /proc and from the marks that the
analysis leaves, not from the systems' own words, but for the states and logs that they give.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time

from systems import SYSTEMS, command, pids

LONG, SHORT = 700, 12  # rounds
NAMES = ["job1", "job2", "job3", "job4", "job5", "job6"]
ROWS = ["same process after the restart", "most running at once", "orphans after the restart", "lost of 6",
        "started twice", "in order", "lines missing in the log", "results as in a direct run", "slowest submit",
        "slowest status", "helpers left after the ends", "left 15 s after a cancellation"]


def rounds(name):
    return LONG if name in ("job1", "long") else SHORT


def direct(folder):
    """What the analysis gives without any system: result and log, and how long it takes."""
    results = {}
    for name in NAMES:
        done = subprocess.run(command(folder, name, rounds(name)), capture_output=True, text=True, check=True)
        results[name] = (open(f"{folder}/result-{name}").read(), done.stdout)
    end_all(folder)
    return results


def processes(folder, name=None, role=None):
    """Processes of this run's analyses: `role` is `main` for those that count as running."""
    def ours(words, pid):
        if f"{folder}" not in words or not any(word.endswith("/work.py") for word in words):
            return False
        if name and name not in words:
            return False
        is_helper = "helper" in words
        if role == "helper":
            return is_helper
        return role is None or (not is_helper and parent_is_no_work(pid, folder))
    return pids(ours)


def parent_is_no_work(pid, folder):
    """A pool's processes have the command line of their parent."""
    try:
        parent = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[1]
        words = open(f"/proc/{parent}/cmdline").read().split("\0")
    except OSError:
        return False
    # `tsp` and shims name the analysis in their own command lines, but don't run it.
    return not (f"{folder}" in words and words[1:2] and words[1].endswith("/work.py"))


def main_processes(folder, name=None):
    return [pid for pid in processes(folder, name, "main") if is_python(pid)]


def is_python(pid):
    try:
        return "python" in os.path.basename(os.readlink(f"/proc/{pid}/exe"))
    except OSError:
        return False


def started(pid):
    try:
        return open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[19]
    except OSError:
        return None


def marks(folder):
    try:
        lines = [line.split() for line in open(f"{folder}/marks")]
    except OSError:
        return []
    return [(what, name) for what, name, _, _ in lines]


def end_all(folder):
    for _ in range(50):
        left = processes(folder)
        for pid in left:
            try:
                os.kill(pid, 9)
            except ProcessLookupError:
                pass
        if not left:
            return
        time.sleep(0.05)


class Observer(threading.Thread):
    """Counts what runs, all the time."""

    def __init__(self, folder):
        super().__init__(daemon=True)
        self.folder, self.most, self.going = folder, 0, True

    def run(self):
        while self.going:
            self.most = max(self.most, len(main_processes(self.folder)))
            time.sleep(0.1)


def timed(times, call, *arguments):
    since = time.monotonic()
    answer = call(*arguments)
    times.append(time.monotonic() - since)
    return answer


def wait_for(condition, seconds):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if condition():
            return True
        time.sleep(0.1)
    return False


def ask(times, system, job):
    try:
        return timed(times, system.state, job)
    except Exception:  # An answer that does not come is a state too.
        return "no answer"


def observe(kind, expected):
    folder = tempfile.mkdtemp(prefix="kill9-")
    system = SYSTEMS[kind](folder)
    try:
        return crash(kind, system, folder, expected)
    finally:
        system.stop()
        end_all(folder)
        shutil.rmtree(folder, ignore_errors=True)


def crash(kind, system, folder, expected):
    system.start()
    submits, statuses, column = [], [], {}
    jobs = {"job1": timed(submits, system.submit, "job1", LONG)}
    assert wait_for(lambda: main_processes(folder, "job1"), 60), f"{kind} does not start job1; see {folder}"
    for name in NAMES[1:]:
        jobs[name] = timed(submits, system.submit, name, SHORT)
    observer = Observer(folder)
    observer.start()
    for _ in range(15):
        ask(statuses, system, jobs["job1"])
        time.sleep(0.2)
    before = [(pid, started(pid)) for pid in main_processes(folder, "job1")]
    print(f"{kind}: job1 is process {before[0][0]}, started at tick {before[0][1]}; kill -9", file=sys.stderr)
    system.kill()
    time.sleep(0.3)
    system.restart()
    time.sleep(2)
    after = [(pid, started(pid)) for pid in main_processes(folder, "job1")]
    print(f"{kind}: after the restart job1 is {after}", file=sys.stderr)
    known = {name: ask(statuses, system, job) for name, job in jobs.items()}
    orphans = [name for name in NAMES for _ in main_processes(folder, name) if known[name] != "runs"]
    column["same process after the restart"] = "yes" if after == before and known["job1"] == "runs" else "no"
    column["orphans after the restart"] = len(orphans)
    finish(system, folder, jobs, statuses)
    observer.going = False
    column["most running at once"] = observer.most
    column.update(compare(system, folder, jobs, expected))
    column["slowest submit"] = f"{max(submits) * 1000:.0f} ms"
    column["slowest status"] = f"{max(statuses) * 1000:.0f} ms"
    column["helpers left after the ends"] = len(processes(folder, role="helper"))
    end_all(folder)
    column["left 15 s after a cancellation"] = cancel(system, folder)
    return column


def finish(system, folder, jobs, statuses):
    """Until the system says that all are over, or nothing has moved for a while."""
    quiet_since = time.monotonic()
    while time.monotonic() - quiet_since < 40:
        states = [ask(statuses, system, job) for job in jobs.values()]
        if all(state in ("done", "failed") for state in states) and not main_processes(folder):
            return
        if main_processes(folder):
            quiet_since = time.monotonic()
        time.sleep(0.3)


def compare(system, folder, jobs, expected):
    seen = marks(folder)
    starts = [name for what, name in seen if what == "start"]
    first = list(dict.fromkeys(starts))
    ask_all = {name: ask([], system, job) for name, job in jobs.items()}
    result = lambda name: os.path.exists(f"{folder}/result-{name}") and open(f"{folder}/result-{name}").read()
    right = [name for name in NAMES if result(name) == expected[name][0]]
    try:
        log = system.log(jobs["job1"])
    except Exception:
        log = ""
    wanted = expected["job1"][1].splitlines()
    return {"lost of 6": sum(1 for name in NAMES if ask_all[name] != "done"),
            "started twice": sum(1 for name in NAMES if starts.count(name) > 1),
            "in order": "yes" if first == NAMES else "no",
            "lines missing in the log": f"{sum(1 for line in wanted if line not in log)} of {len(wanted)}",
            "results as in a direct run": f"{len(right)} of 6"}


def cancel(system, folder):
    if system.cancel is None:
        return "no such call"
    job = system.submit("long", LONG)
    if not wait_for(lambda: main_processes(folder, "long"), 40):
        return "it does not start"
    time.sleep(1)
    system.cancel(job)
    wait_for(lambda: not processes(folder, "long"), 15)
    return f"{len(processes(folder, 'long'))} processes"


def main(kinds):
    folder = tempfile.mkdtemp(prefix="kill9-")
    since = time.monotonic()
    expected = direct(folder)
    shutil.rmtree(folder)
    print(f"a direct run of all six takes {time.monotonic() - since:.1f} s", file=sys.stderr)
    columns = {kind: observe(kind, expected) for kind in kinds}
    print("| |" + "|".join(kinds) + "|")
    print("|---|" + "---|" * len(kinds))
    for row in ROWS:
        print(f"| {row} |" + "|".join(f" {columns[kind][row]} " for kind in kinds) + "|")


if __name__ == "__main__":
    main(sys.argv[1:])
