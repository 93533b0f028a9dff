//! Stops an attempt: a wish in its folder, then a signal to its shim.

use std::io;
use std::sync::Mutex;

use onelane_core::StopReason;

use super::pidfd::signal_verified;
use super::{LocalExecutor, damage, process, read_json};
use crate::AttemptId;
use crate::fail_point;
use crate::files::write_whole;
use crate::record::StopRecord;

/// A wish to stop may come twice at once, from the cancellation and from the start that it met; both would write the
/// same temporary file.
static STOPPING: Mutex<()> = Mutex::new(());

impl LocalExecutor {
    pub(super) fn stop_now(
        &self,
        id: AttemptId,
        reason: StopReason,
        grace_ms: u64,
    ) -> io::Result<()> {
        let folder = self.folder(id);
        if !folder.join("attempt.lock").exists() {
            // Deleted under it: without `stop.json` its shim takes the signal for the machine's end, and ends the tree.
            return damage::holders(&folder)
                .iter()
                .try_for_each(signal_verified);
        }
        if folder.join("exit.json").exists() {
            return Ok(());
        }
        let one_at_a_time = STOPPING.lock();
        // A damaged one says nothing to the shim.
        if read_json::<StopRecord>(&folder.join("stop.json")).is_none() {
            let stop = StopRecord {
                reason,
                at: process::now(),
                grace_ms,
            };
            // The store has it durably.
            write_whole(
                &folder.join("stop.json"),
                &serde_json::to_vec_pretty(&stop)?,
            )?;
        }
        drop(one_at_a_time);
        fail_point("exec.after_stop_record");
        if let Some(record) = self.living_shim(id) {
            // A worker's shim watches the folder: by the time of a signal it may have another attempt.
            return match record.worker {
                Some(_) => Ok(()),
                None => signal_verified(&record.shim),
            };
        }
        if self.unrecorded_shim(id).is_some() {
            return damage::holders(&folder)
                .iter()
                .try_for_each(signal_verified);
        }
        Ok(())
    }
}
