//! A shim, a guard and a process in its groups, made ready while nothing waits for them. They end with their server, whose
//! end of their pipe they see.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use onelane_core::Limits;
use tokio::process::Child;
use tokio::sync::Mutex;

use super::LocalExecutor;
use super::spawn::{new_shim, say};
use crate::Launch;
use crate::level::Level;
use crate::record::{PROTOCOL, ShimOrder, SpareMessage};

/// How long a server that ends waits for it.
const LAST_WAIT: Duration = Duration::from_secs(5);

/// One at most.
#[derive(Clone, Debug, Default)]
pub(crate) struct Spare(Arc<Mutex<Option<Child>>>);

impl LocalExecutor {
    /// The spare shim, if there is one that can do this.
    pub(super) async fn take_spare(&self, launch: &Launch) -> Option<Child> {
        if !self.suits(launch) {
            return None;
        }
        let mut child = self.spare.0.lock().await.take()?;
        let lives = matches!(child.try_wait(), Ok(None));
        lives.then_some(child)
    }

    /// What is made ready knows no limits that a control group keeps, and no version is asked of it.
    fn suits(&self, launch: &Launch) -> bool {
        let Limits {
            memory_bytes,
            processes,
            ..
        } = launch.limits;
        let limited = memory_bytes.is_some() || processes.is_some();
        launch.version_command.is_none()
            && launch.cpu_priority.is_idle()
            && !(limited && self.control.level() == Level::Cgroup)
    }

    /// Makes one ready for the next attempt, unless one is there.
    pub(super) async fn prepare_spare(&self) {
        let mut spare = self.spare.0.lock().await;
        if spare.is_none() {
            match self.make_spare().await {
                Ok(child) => *spare = Some(child),
                // The next attempt starts without.
                Err(error) => tracing::debug!(%error, "no spare shim could be made"),
            }
        }
    }

    /// For the end of a server: it goes, with its groups.
    pub(super) async fn end_spare(&self) {
        if let Some(mut child) = self.spare.0.lock().await.take() {
            drop(child.stdin.take());
            // It would go by itself all the same.
            tokio::time::timeout(LAST_WAIT, child.wait()).await.ok();
        }
    }

    async fn make_spare(&self) -> io::Result<Child> {
        let mut child = new_shim()?;
        let order = ShimOrder::Spare(SpareMessage {
            protocol: PROTOCOL,
            level: self.control.level(),
            groups: self.control.groups().cloned(),
        });
        say(&mut child, &order).await?;
        Ok(child)
    }
}
