//! Control groups: an attempt's processes named by the kernel, limited by it, and killed at once.
//!
//! Version 1 and version 2 (and machines that mount both) are used alike: every hierarchy that this process may write
//! gets `onelane-<data folder's id>/{server,normal}` and `onelane-<data folder's id>-jobs`, and below `normal` or the
//! latter one group for each attempt. The latter lies beside the server's and not below it, since it is idle: so it
//! yields to all that runs, the kernel's own threads too, and what jobs take is not counted against the server.
//! Sources: cgroups(7); the kernel's `admin-guide/cgroup-v1/*` and `admin-guide/cgroup-v2`.
//!
//! The CPU, memory and pids controllers of version 2 were not there on any machine that this was tried on: what is
//! written for them follows the kernel's documentation and is tested on a made-up tree only.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::IntoRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;
use onelane_core::{CpuPriority, Limits};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use super::process::tick;
use super::tree;

/// The controllers that are used where they are there.
const WANTED: [&str; 4] = ["cpu", "memory", "pids", "freezer"];
/// The file systems of control groups, version 1 and 2 (statfs(2), linux/magic.h).
const MAGIC: [u32; 2] = [0x0027_E0EB, 0x6367_7270];
/// A group that is swept away just when it is made is made anew, so often at most.
const TRIES: u32 = 10;
/// How long killed processes of a group may take to be gone.
const KILL_TIME: Duration = Duration::from_secs(30);

/// Which kind of hierarchy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Version {
    V1,
    V2,
}

/// One group, in one hierarchy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Group {
    pub path: PathBuf,
    pub version: Version,
    pub controllers: Vec<String>,
}

/// Where the groups of a data folder's attempts are made: `onelane-<id>` in each hierarchy, and beside it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Groups {
    bases: Vec<Group>,
}

/// The groups of one attempt.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct AttemptGroups {
    groups: Vec<Group>,
}

impl Group {
    fn has(&self, controller: &str) -> bool {
        self.controllers.iter().any(|one| one == controller)
    }

    fn child(&self, name: &str) -> Self {
        Self {
            path: self.path.join(name),
            ..self.clone()
        }
    }

    /// Of a base: the parent of the attempts that get what nobody else wants.
    fn jobs(&self) -> Self {
        let mut name = self.path.file_name().unwrap_or_default().to_owned();
        name.push("-jobs");
        Self {
            path: self.path.with_file_name(name),
            ..self.clone()
        }
    }

    /// Of a base: the parent of the attempts that share the processors with the server.
    fn normal(&self) -> Self {
        self.child("normal")
    }

    fn write(&self, file: &str, value: &str) -> io::Result<()> {
        let path = self.path.join(file);
        let named =
            |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        let mut file = OpenOptions::new().write(true).open(&path).map_err(named)?;
        file.write_all(value.as_bytes()).map_err(named)
    }

    fn make(&self) -> io::Result<()> {
        match fs::create_dir(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            other => other,
        }
    }

    /// Makes the group, and keeps servers from sweeping it away while this process or a fork of it lives: until the tool
    /// starts it is empty, and would look like one that is over.
    fn make_held(&self) -> io::Result<()> {
        for _ in 0..TRIES {
            self.make()?;
            let here = match File::open(&self.path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                here => here?,
            };
            flock(&here, FlockOperation::LockShared)?;
            let is_there = |there: fs::Metadata| Ok(there.ino() == here.metadata()?.ino());
            match fs::metadata(&self.path).and_then(is_there) {
                Ok(true) => {
                    // Open until the process ends.
                    let _held = here.into_raw_fd();
                    return Ok(());
                }
                Ok(false) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::other(
            "its control group is swept away again and again",
        ))
    }

    /// Removes the groups below this one that nobody holds. One that is in use stays: the kernel refuses.
    fn sweep(&self) {
        let below = fs::read_dir(&self.path).into_iter().flatten().flatten();
        for entry in below.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
            let path = entry.path();
            let Ok(there) = File::open(&path) else {
                continue;
            };
            if flock(&there, FlockOperation::NonBlockingLockExclusive).is_ok() {
                let group = Self {
                    path,
                    ..self.clone()
                };
                group.remove();
            }
        }
    }

    /// This group and those below it, parents first.
    fn all(&self) -> Vec<PathBuf> {
        let mut found = vec![self.path.clone()];
        let mut next = 0;
        while let Some(path) = found.get(next).cloned() {
            let below = fs::read_dir(&path).into_iter().flatten().flatten();
            found.extend(
                below
                    .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
                    .map(|entry| entry.path()),
            );
            next += 1;
        }
        found
    }

    /// Whether the group's hierarchy is mounted where the group is looked for. The kernel removes no group that has
    /// processes, so that one that is missing there is an empty one.
    fn is_in_sight(&self) -> io::Result<()> {
        let nearest = self.path.ancestors().find(|path| path.exists());
        let system = rustix::fs::statfs(nearest.unwrap_or(&self.path))?.f_type;
        if MAGIC
            .iter()
            .any(|magic| i128::from(*magic) == i128::from(system))
        {
            return Ok(());
        }
        let why = format!("no control groups are mounted at `{}`", self.path.display());
        Err(io::Error::new(io::ErrorKind::NotFound, why))
    }

    fn processes(&self) -> Vec<u32> {
        let lists = self.all().into_iter();
        let lists = lists.filter_map(|path| fs::read_to_string(path.join("cgroup.procs")).ok());
        lists
            .flat_map(|list| {
                list.lines()
                    .filter_map(|line| line.parse().ok())
                    .collect::<Vec<_>>()
            })
            .collect()
    }

    fn kill(&self) {
        if self.version == Version::V2 && self.write("cgroup.kill", "1").is_ok() {
            return;
        }
        // A frozen tree can't fork while it is killed; the signals arrive when it thaws.
        let freezer = self.has("freezer");
        if freezer {
            self.write("freezer.state", "FROZEN").ok();
        }
        for pid in self.processes() {
            tree::send(pid, Signal::SIGKILL);
        }
        if freezer {
            // Also what the tool has frozen itself, below.
            for path in self.all() {
                fs::write(path.join("freezer.state"), "THAWED").ok();
            }
        }
    }

    fn remove(&self) {
        for path in self.all().into_iter().rev() {
            fs::remove_dir(path).ok();
        }
    }

    fn limit(&self, limits: &Limits) -> io::Result<()> {
        if let (true, Some(bytes)) = (self.has("memory"), limits.memory_bytes) {
            match self.version {
                Version::V1 => {
                    self.write("memory.limit_in_bytes", &bytes.to_string())?;
                    // Only there where swap is accounted for.
                    self.write("memory.memsw.limit_in_bytes", &bytes.to_string())
                        .ok();
                }
                Version::V2 => {
                    self.write("memory.max", &bytes.to_string())?;
                    self.write("memory.swap.max", "0").ok();
                    self.write("memory.oom.group", "1").ok();
                }
            }
        }
        if let (true, Some(count)) = (self.has("pids"), limits.processes) {
            self.write("pids.max", &count.to_string())?;
        }
        Ok(())
    }

    /// How many of the group's processes the kernel has killed for want of memory.
    fn oom_kills(&self) -> u64 {
        let file = match self.version {
            Version::V1 => "memory.oom_control",
            Version::V2 => "memory.events",
        };
        let text = fs::read_to_string(self.path.join(file)).unwrap_or_default();
        text.lines()
            .find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
            .unwrap_or(0)
    }
}

impl Groups {
    /// Makes `onelane-<name>` wherever this process may, moves this process into its `server` group where
    /// processor time is shared out, and shows that a group works by using one.
    ///
    /// # Errors
    /// When no hierarchy can be written.
    pub(crate) fn set_up(name: &str) -> io::Result<Self> {
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        let own = fs::read_to_string("/proc/self/cgroup")?;
        let name = format!("onelane-{name}");
        let mut refusal = io::Error::new(io::ErrorKind::NotFound, "no control groups are mounted");
        let mut bases = Vec::new();
        for home in hierarchies(&mounts, &own) {
            match set_up_one(&home, &name) {
                Ok(base) => bases.push(base),
                Err(error) => refusal = error,
            }
        }
        // Without one of these a group could be left by a fork in the middle of being killed.
        let kills = |base: &Group| base.version == Version::V2 || base.has("freezer");
        if bases.iter().any(kills) {
            Ok(Self { bases })
        } else {
            Err(refusal)
        }
    }

    /// The controllers in use, for people.
    pub(crate) fn controllers(&self) -> Vec<String> {
        let all: BTreeSet<&String> = self
            .bases
            .iter()
            .flat_map(|base| &base.controllers)
            .collect();
        all.into_iter().cloned().collect()
    }

    /// The attempt's groups, made and limited.
    pub(crate) fn make(
        &self,
        name: &str,
        priority: CpuPriority,
        limits: &Limits,
    ) -> io::Result<AttemptGroups> {
        let made = AttemptGroups {
            groups: self.of(name, priority, limits),
        };
        for group in &made.groups {
            if let Err(error) = group.make_held().and_then(|()| group.limit(limits)) {
                made.remove();
                return Err(error);
            }
        }
        Ok(made)
    }

    /// Entering a group costs milliseconds, so an attempt gets only those that it has a use for: one to be killed by,
    /// one for its share of the processors, and those of its limits.
    fn of(&self, name: &str, priority: CpuPriority, limits: &Limits) -> Vec<Group> {
        let parent = |base: &Group| match priority {
            CpuPriority::Idle => base.jobs(),
            CpuPriority::Normal => base.normal(),
        };
        let killed_at_once = self.bases.iter().any(|base| base.version == Version::V2);
        let useful = |base: &&Group| {
            base.version == Version::V2
                || base.has("cpu") && priority.is_idle()
                || base.has("memory") && limits.memory_bytes.is_some()
                || base.has("pids") && limits.processes.is_some()
                || base.has("freezer") && !killed_at_once
        };
        let useful = self.bases.iter().filter(useful);
        useful.map(|base| parent(base).child(name)).collect()
    }

    /// Removes the groups of attempts that are over.
    pub(crate) fn sweep(&self) {
        for base in &self.bases {
            // The last one is where earlier releases made them.
            let parents = [base.jobs(), base.normal(), base.child("jobs")];
            parents.iter().for_each(Group::sweep);
        }
    }

    /// Leaves nothing behind where nothing is in use any more.
    pub(crate) fn leave(&self) {
        self.sweep();
        for base in &self.bases {
            let home = base.path.parent().unwrap_or(&base.path);
            fs::write(home.join("cgroup.procs"), std::process::id().to_string()).ok();
            let parts = ["server", "normal", "jobs"].map(|part| base.child(part));
            for group in parts.iter().chain([base, &base.jobs()]) {
                // One that still has an attempt's group stays.
                fs::remove_dir(&group.path).ok();
            }
        }
    }
}

impl AttemptGroups {
    /// True when no control group is in use.
    pub(crate) fn is_none(&self) -> bool {
        self.groups.is_empty()
    }

    /// True when every path is one that this data folder makes for this attempt, so that a record that somebody has
    /// changed can't turn the killing on others.
    pub(crate) fn belong_to(&self, folder: &str, name: &str) -> bool {
        // The last one is where earlier releases made them.
        let parents = ["-jobs", "/normal", "/jobs"];
        let ends = parents.map(|parent| format!("/onelane-{folder}{parent}/{name}"));
        self.groups.iter().all(|group| {
            let path = group.path.to_string_lossy();
            !path.contains("/../") && ends.iter().any(|end| path.ends_with(end))
        })
    }

    /// Opens what a process writes `0` into to be in the groups.
    pub(crate) fn entrances(&self) -> io::Result<Vec<File>> {
        let open = |group: &Group| {
            OpenOptions::new()
                .write(true)
                .open(group.path.join("cgroup.procs"))
        };
        self.groups.iter().map(open).collect()
    }

    /// Every process of the groups, by its number in this process's namespace.
    pub(crate) fn processes(&self) -> BTreeSet<u32> {
        self.groups.iter().flat_map(Group::processes).collect()
    }

    /// True when no process is left: the proof of death.
    pub(crate) fn is_empty(&self) -> bool {
        self.processes().is_empty()
    }

    /// Sends SIGKILL to all of them.
    pub(crate) fn kill(&self) {
        self.groups.iter().for_each(Group::kill);
    }

    /// Kills until nothing is left, without being anybody's parent. False when something does not die.
    ///
    /// # Errors
    /// When a hierarchy can't be seen from here: then a group that seems to be empty proves nothing.
    pub(crate) fn end(&self) -> io::Result<bool> {
        let deadline = tick() + KILL_TIME;
        loop {
            self.groups.iter().try_for_each(Group::is_in_sight)?;
            if self.is_empty() {
                self.remove();
                return Ok(true);
            }
            if tick() >= deadline {
                return Ok(false);
            }
            self.kill();
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Removes the groups; one that is in use stays.
    pub(crate) fn remove(&self) {
        self.groups.iter().for_each(Group::remove);
    }

    /// How many processes the kernel has killed for want of memory.
    pub(crate) fn oom_kills(&self) -> u64 {
        let counts = self.groups.iter().filter(|group| group.has("memory"));
        counts.map(Group::oom_kills).max().unwrap_or(0)
    }

    /// Whether the kernel keeps this limit.
    pub(crate) fn keeps(&self, controller: &str) -> bool {
        self.groups.iter().any(|group| group.has(controller))
    }
}

/// Makes the base and its parts in one hierarchy, or says why that is not allowed.
fn set_up_one(home: &Group, name: &str) -> io::Result<Group> {
    let base = home.child(name);
    base.make()?;
    let parts = [base.child("server"), base.jobs(), base.normal()];
    for part in &parts {
        part.make()?;
    }
    let [server, jobs, normal] = parts;
    let mut base = base;
    match home.version {
        Version::V1 => share_processor(&base, &server, &jobs)?,
        Version::V2 => base.controllers = delegate(home, &base, [&server, &jobs, &normal]),
    }
    try_out(&base.jobs().child("trial"))?;
    Ok(base)
}

/// The server in a group beside the jobs', whose processes run when nothing else wants to.
fn share_processor(base: &Group, server: &Group, jobs: &Group) -> io::Result<()> {
    if !base.has("cpu") {
        return Ok(());
    }
    // Against other processes the whole of it weighs as much as one process for each processor.
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    base.write("cpu.shares", &(1024 * cpus).to_string())?;
    server.write("cgroup.procs", &std::process::id().to_string())?;
    jobs.write("cpu.idle", "1")
        .or_else(|_| jobs.write("cpu.shares", "2"))
}

/// Gives the controllers down to the attempts' groups; tells which could be given. A group that has processes of its
/// own can't give any ("no internal processes"), so this process goes into `server` first.
fn delegate(home: &Group, base: &Group, [server, jobs, normal]: [&Group; 3]) -> Vec<String> {
    if home.controllers.is_empty() {
        return Vec::new();
    }
    server
        .write("cgroup.procs", &std::process::id().to_string())
        .ok();
    let givers = [home, base, jobs, normal];
    let mut given = home.controllers.clone();
    given.retain(|name| {
        givers.iter().all(|group| {
            group
                .write("cgroup.subtree_control", &format!("+{name}"))
                .is_ok()
        })
    });
    if given.iter().any(|name| name == "cpu") {
        jobs.write("cpu.idle", "1")
            .or_else(|_| jobs.write("cpu.weight", "1"))
            .ok();
    }
    given
}

/// Shows by doing that processes can be put into a group, are listed there, and can be killed there.
fn try_out(trial: &Group) -> io::Result<()> {
    trial.make()?;
    let groups = AttemptGroups {
        groups: vec![trial.clone()],
    };
    let mut child = std::process::Command::new("/proc/self/exe")
        .args(["shim", "--wait"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .spawn()?;
    let entered = trial
        .write("cgroup.procs", &child.id().to_string())
        .map(|()| groups.processes().contains(&child.id()));
    groups.kill();
    if !matches!(entered, Ok(true)) {
        child.kill().ok();
    }
    child.wait()?;
    let emptied = groups.end()?;
    if entered? && emptied {
        Ok(())
    } else {
        Err(io::Error::other(
            "a group of processes does not work as it should",
        ))
    }
}

/// This process's own group in each hierarchy that is mounted, with the controllers that can be used there.
fn hierarchies(mountinfo: &str, own: &str) -> Vec<Group> {
    let mut found: Vec<Group> = Vec::new();
    for mount in mountinfo.lines().filter_map(Mount::parse) {
        let Some(path) = mount.own_path(own) else {
            continue;
        };
        let controllers = match mount.version {
            Version::V1 => mount.options.clone(),
            Version::V2 => fs::read_to_string(path.join("cgroup.controllers"))
                .unwrap_or_default()
                .split_ascii_whitespace()
                .map(str::to_owned)
                .collect(),
        };
        let controllers: Vec<String> = controllers
            .into_iter()
            .filter(|name| WANTED.contains(&name.as_str()))
            .collect();
        // Version 1 hierarchies for other purposes would only make starts slower.
        let useful = mount.version == Version::V2 || !controllers.is_empty();
        if useful && !found.iter().any(|group| group.path == path) {
            found.push(Group {
                path,
                version: mount.version,
                controllers,
            });
        }
    }
    found
}

/// A line of /proc/self/mountinfo (proc(5)) that mounts a hierarchy.
struct Mount {
    root: String,
    point: PathBuf,
    version: Version,
    options: Vec<String>,
}

impl Mount {
    fn parse(line: &str) -> Option<Self> {
        let (before, after) = line.split_once(" - ")?;
        let mut before = before.split(' ').skip(3);
        let (root, point) = (before.next()?, before.next()?);
        let mut after = after.split(' ');
        let version = match after.next()? {
            "cgroup" => Version::V1,
            "cgroup2" => Version::V2,
            _ => return None,
        };
        let options = after.nth(1)?.split(',').map(str::to_owned).collect();
        Some(Self {
            root: root.to_owned(),
            point: PathBuf::from(point.replace("\\040", " ")),
            version,
            options,
        })
    }

    /// Where the group that /proc/self/cgroup names is below this mount.
    fn own_path(&self, own: &str) -> Option<PathBuf> {
        let line = own.lines().find_map(|line| {
            let mut parts = line.splitn(3, ':').skip(1);
            let (controllers, path) = (parts.next()?, parts.next()?);
            let here = match self.version {
                Version::V2 => controllers.is_empty(),
                Version::V1 => controllers.split(',').any(|name| {
                    !name.is_empty() && self.options.iter().any(|option| option == name)
                }),
            };
            here.then_some(path)
        })?;
        let below = Path::new(line).strip_prefix(&self.root).ok()?;
        let path = self.point.join(below);
        // A server that is started again by the one before it begins beside it. One that is somebody's job stays inside
        // the job's group.
        let folder = path.parent().filter(|parent| {
            let name = parent.file_name().unwrap_or_default();
            path.ends_with("server") && name.to_string_lossy().starts_with("onelane-")
        });
        Some(
            folder
                .and_then(Path::parent)
                .map_or_else(|| path.clone(), Path::to_owned),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
25 1 0:22 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
26 25 0:23 / /sys/fs/cgroup/cpu rw,relatime shared:4 - cgroup cgroup rw,cpu,cpuacct
27 25 0:24 /docker/abc /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
28 25 0:25 / /sys/fs/cgroup/devices rw,relatime - cgroup cgroup rw,devices
29 25 0:26 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
30 25 0:27 / /mnt/with\\040space rw - ext4 /dev/sda rw
";
    const OWN: &str =
        "9:devices:/\n4:memory:/docker/abc/deep\n2:cpu,cpuacct:/user\n0::/user.slice\n";

    #[test]
    fn the_own_group_is_found_in_each_hierarchy() {
        let found = hierarchies(MOUNTS, OWN);
        let shown: Vec<_> = found
            .iter()
            .map(|group| {
                (
                    group.path.to_str().unwrap(),
                    group.version,
                    group.controllers.join(","),
                )
            })
            .collect();
        assert_eq!(
            shown,
            [
                ("/sys/fs/cgroup/cpu/user", Version::V1, "cpu".to_owned()),
                (
                    "/sys/fs/cgroup/memory/deep",
                    Version::V1,
                    "memory".to_owned()
                ),
                (
                    "/sys/fs/cgroup/unified/user.slice",
                    Version::V2,
                    String::new()
                ),
            ]
        );
    }

    #[test]
    fn a_server_inside_its_own_group_begins_outside_of_it() {
        let own = "0::/system.slice/onelane.service/onelane-ab/server\n";
        let line = "29 25 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw";
        let path = Mount::parse(line).unwrap().own_path(own).unwrap();
        assert_eq!(
            path,
            Path::new("/sys/fs/cgroup/system.slice/onelane.service")
        );
    }

    #[test]
    fn a_server_that_is_a_job_stays_inside_the_jobs_group() {
        let own = "0::/onelane-ab-jobs/J.1\n";
        let line = "29 25 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw";
        let path = Mount::parse(line).unwrap().own_path(own).unwrap();
        assert_eq!(path, Path::new("/sys/fs/cgroup/onelane-ab-jobs/J.1"));
    }

    #[test]
    fn a_group_that_is_looked_for_where_no_groups_are_proves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let group = made_up(&folder.path().join("onelane-ab"), Version::V2, &[]);
        let groups = AttemptGroups {
            groups: vec![group],
        };
        assert!(groups.is_empty());
        let error = groups.end().unwrap_err();
        assert!(
            error.to_string().contains("no control groups are mounted"),
            "{error}"
        );
    }

    /// Between its start and its tool's an attempt's group is empty, and a server may start or end just then.
    #[test]
    fn a_sweep_leaves_what_a_living_supervisor_has_made_and_takes_what_nobody_has() {
        let folder = tempfile::tempdir().unwrap();
        let base = made_up(&folder.path().join("onelane-ab"), Version::V2, &[]);
        let jobs = base.jobs();
        for part in [&jobs, &base.normal()] {
            fs::create_dir_all(&part.path).unwrap();
        }
        let groups = Groups { bases: vec![base] };
        let made = |name: &str| groups.make(name, CpuPriority::Idle, &Limits::default());
        let held = made("living.1").unwrap();
        fs::create_dir_all(jobs.path.join("over.1/below")).unwrap();
        groups.sweep();
        groups.leave();
        assert!(held.groups[0].path.is_dir());
        assert!(!jobs.path.join("over.1").exists());
        // Whoever has made it may take it away, and make it again.
        held.remove();
        assert!(!held.groups[0].path.exists());
        made("living.1").unwrap();
    }

    fn made_up(folder: &Path, version: Version, files: &[&str]) -> Group {
        for file in files {
            fs::write(folder.join(file), "").unwrap();
        }
        let controllers = WANTED.map(str::to_owned).to_vec();
        Group {
            path: folder.to_owned(),
            version,
            controllers,
        }
    }

    fn limits() -> Limits {
        Limits {
            memory_bytes: Some(1 << 20),
            processes: Some(7),
            ..Limits::default()
        }
    }

    #[test]
    fn limits_of_version_2_are_written_as_the_kernels_documentation_says() {
        let folder = tempfile::tempdir().unwrap();
        let files = [
            "memory.max",
            "memory.swap.max",
            "memory.oom.group",
            "pids.max",
        ];
        let group = made_up(folder.path(), Version::V2, &files);
        group.limit(&limits()).unwrap();
        let read = files.map(|file| fs::read_to_string(folder.path().join(file)).unwrap());
        assert_eq!(read, ["1048576", "0", "1", "7"]);
    }

    #[test]
    fn limits_of_version_1_are_written_as_the_kernels_documentation_says() {
        let folder = tempfile::tempdir().unwrap();
        let files = [
            "memory.limit_in_bytes",
            "memory.memsw.limit_in_bytes",
            "pids.max",
        ];
        let group = made_up(folder.path(), Version::V1, &files);
        group.limit(&limits()).unwrap();
        let read = files.map(|file| fs::read_to_string(folder.path().join(file)).unwrap());
        assert_eq!(read, ["1048576", "1048576", "7"]);
    }

    #[test]
    fn controllers_of_version_2_are_given_down_to_the_attempts() {
        let folder = tempfile::tempdir().unwrap();
        let home = Group {
            controllers: vec!["cpu".into(), "memory".into()],
            ..made_up(folder.path(), Version::V2, &["cgroup.subtree_control"])
        };
        let parts =
            ["base", "base/server", "base-jobs", "base/normal"].map(|part| home.child(part));
        for part in &parts {
            part.make().unwrap();
            for file in ["cgroup.subtree_control", "cgroup.procs", "cpu.idle"] {
                fs::write(part.path.join(file), "").unwrap();
            }
        }
        let [base, server, jobs, normal] = &parts;
        assert_eq!(
            delegate(&home, base, [server, jobs, normal]),
            ["cpu", "memory"]
        );
        let read = |path: &str| fs::read_to_string(folder.path().join(path)).unwrap();
        assert_eq!(read("base-jobs/cpu.idle"), "1");
        assert_eq!(
            read("base/server/cgroup.procs"),
            std::process::id().to_string()
        );
        // A made-up file keeps what was written first where the second write is shorter or equal.
        assert!(read("base-jobs/cgroup.subtree_control").starts_with("+memory"));
    }

    #[test]
    fn kills_of_the_kernel_are_counted() {
        let folder = tempfile::tempdir().unwrap();
        let group = made_up(folder.path(), Version::V1, &[]);
        fs::write(
            folder.path().join("memory.oom_control"),
            "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
        )
        .unwrap();
        let groups = AttemptGroups {
            groups: vec![group],
        };
        assert_eq!(groups.oom_kills(), 2);
    }

    #[test]
    fn a_record_that_names_other_groups_is_not_believed() {
        let group = |path: &str| AttemptGroups {
            groups: vec![Group {
                path: path.into(),
                version: Version::V2,
                controllers: Vec::new(),
            }],
        };
        for parent in ["onelane-ab-jobs", "onelane-ab/normal", "onelane-ab/jobs"] {
            let path = |end: &str| format!("/sys/fs/cgroup/x/{parent}/{end}");
            assert!(group(&path("J.1")).belong_to("ab", "J.1"));
            assert!(!group(&path("J.2")).belong_to("ab", "J.1"));
            assert!(!group(&path("../J.1")).belong_to("ab", "J.1"));
            assert!(!group(&path("J.1")).belong_to("b", "J.1"));
        }
        assert!(!group("/sys/fs/cgroup").belong_to("ab", "J.1"));
    }
}
