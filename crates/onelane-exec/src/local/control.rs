//! Choosing how process trees are held together here: by trying, not by asking for versions.

use std::io;
use std::process::{Command, Stdio};
use std::sync::Arc;

use super::cgroup::Groups;
use crate::level::{Level, WantedLevel};

/// The level in force, and what it works with.
#[derive(Clone, Debug)]
pub struct Control {
    name: Arc<str>,
    level: Level,
    groups: Option<Arc<Groups>>,
    refusals: Vec<(Level, String)>,
}

impl Control {
    /// The guard alone, which works wherever Linux does. `name` tells this data folder's attempts from others'.
    pub fn guard(name: &str) -> Self {
        Self {
            name: name.into(),
            level: Level::Guard,
            groups: None,
            refusals: Vec::new(),
        }
    }

    /// Tries the levels, the strongest first. `name` tells this data folder's groups from others'.
    ///
    /// Runs this very program as `shim`, and moves this process into a control group of its own where that works.
    ///
    /// # Errors
    /// When the one level that is wanted does not work here.
    pub fn choose(wanted: WantedLevel, name: &str) -> io::Result<Self> {
        let mut control = Self::guard(name);
        for level in Level::ALL {
            if matches!(wanted, WantedLevel::Only(only) if only != level) {
                continue;
            }
            match control.take(level) {
                Ok(()) => return Ok(control),
                Err(error) => control.refusals.push((level, error.to_string())),
            }
        }
        let why = control.refusals.first().map_or("", |(_, why)| why.as_str());
        Err(io::Error::other(format!(
            "process control by {wanted} does not work here: {why}"
        )))
    }

    fn take(&mut self, level: Level) -> io::Result<()> {
        match level {
            Level::Cgroup => self.groups = Some(Arc::new(Groups::set_up(&self.name)?)),
            Level::Namespace => try_namespace()?,
            Level::Guard => {}
        }
        self.level = level;
        Ok(())
    }

    /// The level in force.
    pub const fn level(&self) -> Level {
        self.level
    }

    /// The control groups' controllers in use.
    pub fn controllers(&self) -> Vec<String> {
        self.groups
            .as_ref()
            .map(|groups| groups.controllers())
            .unwrap_or_default()
    }

    /// The stronger levels that don't work here, with the reason.
    pub fn refusals(&self) -> &[(Level, String)] {
        &self.refusals
    }

    /// Removes what is not in use any more; for the end of a server.
    pub fn leave(&self) {
        if let Some(groups) = &self.groups {
            groups.leave();
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn groups(&self) -> Option<&Groups> {
        self.groups.as_deref()
    }
}

/// In a process of its own, as it takes a fork, and this one has threads.
fn try_namespace() -> io::Result<()> {
    let ended = Command::new("/proc/self/exe")
        .args(["shim", "--namespace"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()?;
    if ended.success() {
        Ok(())
    } else {
        Err(io::Error::other(
            "this user can't make a pid namespace with a /proc of its own",
        ))
    }
}
