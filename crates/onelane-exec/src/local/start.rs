//! Starts an attempt: its folder first, then a shim, and what that says.

use std::fs;
use std::io;

use tokio::process::Child;

use super::LocalExecutor;
use super::spawn::{hear, new_shim};
use crate::record::{PROTOCOL, StartMessage, StatusLine, Subject};
use crate::{AttemptId, ExecError, Found, Launch, Running};

impl LocalExecutor {
    /// Makes room for it, lays out its folder, and gives it to a shim; one whose folder is there is found again.
    pub(super) async fn start_attempt(&self, launch: &Launch) -> Result<Found, ExecError> {
        let key = launch.warm.as_ref().map(|warm| warm.worker.key.as_str());
        let room = self.pool.make_room(launch.spare, key).await;
        room.map_err(|why| {
            // It is tried again, as for all that only the machine lacks.
            ExecError::new(why, io::Error::from_raw_os_error(nix::libc::ENOMEM))
        })?;
        if !self.lay_out(launch).await? {
            return self.find(launch.id, None).await;
        }
        if let Some(warm) = &launch.warm {
            return self.start_warm(launch, warm).await;
        }
        let status = self.begin(launch).await?;
        let this = self.clone();
        tokio::spawn(async move { this.prepare_spare().await });
        match status {
            Some(StatusLine::Started {
                started_at,
                tool_version,
            }) => match self.living_shim(launch.id) {
                Some(record) => Ok(Found::Running(Running {
                    shim: record.shim,
                    started_at,
                    tool_version,
                    level: record.level,
                })),
                None => self.find(launch.id, None).await,
            },
            Some(StatusLine::Failed { message, os_error }) => {
                tracing::warn!(job = %launch.id.job, attempt = launch.id.attempt, message, "a shim could not begin");
                if let Some(errno) = os_error
                    && self.has_not_begun(launch.id).await?
                {
                    let error = io::Error::from_raw_os_error(errno);
                    return Err(ExecError::new("begin the attempt", error));
                }
                self.until_over(launch.id).await.map(Found::Over)
            }
            Some(StatusLine::Listening) | None => self.until_over(launch.id).await.map(Found::Over),
        }
    }

    /// Gives the attempt to a shim, to a spare one if there is one, and hears what it says.
    async fn begin(&self, launch: &Launch) -> Result<Option<StatusLine>, ExecError> {
        let failed = |error| ExecError::new("start the shim", error);
        let message = self.start_message(launch);
        if let Some(spare) = self.take_spare(launch).await {
            if let Ok(Some(status)) = hear(spare, &message).await {
                return Ok(Some(status));
            }
            // It was gone before it had the attempt, or went with it. One that was stopped in time says nothing either.
            if self.is_stopped(launch.id) {
                return Ok(None);
            }
            if !self.has_not_begun(launch.id).await? || !self.lay_out(launch).await? {
                return Ok(None);
            }
        }
        let child = self.spawn(launch.id).map_err(failed)?;
        hear(child, &message).await.map_err(failed)
    }

    fn spawn(&self, id: AttemptId) -> io::Result<Child> {
        new_shim().inspect_err(|_| {
            // No process was made, so the next try may make the lock anew.
            fs::remove_file(self.folder(id).join("attempt.lock")).ok();
        })
    }

    fn start_message(&self, launch: &Launch) -> StartMessage {
        StartMessage {
            protocol: PROTOCOL,
            subject: Subject::Attempt(launch.id),
            folder: self.folder(launch.id),
            instance: self.instance.to_string(),
            command: launch.command.clone(),
            version_command: launch.version_command.clone(),
            env: launch.env.clone(),
            stdin: launch.stdin.clone(),
            workdir: launch.workdir.clone(),
            grace_ms: launch.grace_ms,
            limits: launch.limits,
            cpu_priority: launch.cpu_priority,
            level: self.control.level(),
            groups: self.control.groups().cloned(),
        }
    }
}
