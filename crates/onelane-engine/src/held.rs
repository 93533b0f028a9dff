use std::collections::HashMap;

use onelane_core::JobId;
use parking_lot::Mutex;

/// Jobs that the machine holds up, such as by a full disk, and why. They go on by themselves.
#[derive(Debug, Default)]
pub(crate) struct Held(Mutex<HashMap<JobId, String>>);

impl Held {
    /// Notes why; true when that is news.
    pub(crate) fn hold(&self, id: JobId, why: &str) -> bool {
        let mut held = self.0.lock();
        if held.get(&id).is_some_and(|known| known == why) {
            return false;
        }
        held.insert(id, why.to_owned());
        true
    }

    /// It goes on; true when it was held up.
    pub(crate) fn release(&self, id: JobId) -> bool {
        self.0.lock().remove(&id).is_some()
    }

    pub(crate) fn why(&self, id: JobId) -> Option<String> {
        self.0.lock().get(&id).cloned()
    }
}
