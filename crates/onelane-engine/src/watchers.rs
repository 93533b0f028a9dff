use std::collections::HashMap;

use onelane_core::JobId;
use parking_lot::Mutex;
use tokio::sync::watch;

/// Who waits for news of which job.
#[derive(Default)]
pub(crate) struct Watchers {
    of: Mutex<HashMap<JobId, watch::Sender<u64>>>,
}

impl Watchers {
    /// A counter that grows with each piece of news. Subscribe before you look, so that nothing falls between.
    pub(crate) fn subscribe(&self, id: JobId) -> watch::Receiver<u64> {
        let mut of = self.of.lock();
        // Entries of those who left are swept when somebody comes: the map never outgrows the waiting ones by much.
        of.retain(|other, sender| *other == id || sender.receiver_count() > 0);
        of.entry(id)
            .or_insert_with(|| watch::channel(0).0)
            .subscribe()
    }

    /// News of one job.
    pub(crate) fn tell(&self, id: JobId) {
        if let Some(sender) = self.of.lock().get(&id) {
            sender.send_modify(|count| *count += 1);
        }
    }

    /// The queue moved: positions changed.
    pub(crate) fn tell_all(&self) {
        for sender in self.of.lock().values() {
            sender.send_modify(|count| *count += 1);
        }
    }
}
