//! SHA-256 of result files: computed once, in the background, one job after the other. No answer waits for a large file.

use std::collections::{HashMap, HashSet};
use std::fs::{File, Metadata};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use onelane_core::JobId;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

/// An answer waits so long: small files are done by then.
const PATIENCE: Duration = Duration::from_millis(500);
/// Beyond so many the memory is begun anew.
const MOST_KNOWN: usize = 100_000;

/// A file as it was when it was read.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Version {
    path: PathBuf,
    size_bytes: u64,
    modified: Option<SystemTime>,
}

/// What is known.
pub(crate) struct Hashes {
    known: Mutex<HashMap<Version, String>>,
    jobs: Mutex<HashSet<JobId>>,
    one_at_a_time: Semaphore,
}

impl Default for Hashes {
    fn default() -> Self {
        Self {
            known: Mutex::default(),
            jobs: Mutex::default(),
            one_at_a_time: Semaphore::new(1),
        }
    }
}

fn version(path: PathBuf, metadata: &Metadata) -> Version {
    Version {
        path,
        size_bytes: metadata.len(),
        modified: metadata.modified().ok(),
    }
}

impl Hashes {
    /// The hashes of these files as far as they are known in a moment; the others are computed all the same.
    pub(crate) async fn of(
        self: &Arc<Self>,
        job: JobId,
        root: &Path,
        files: &[(String, Metadata)],
    ) -> Vec<Option<String>> {
        let versions: Vec<_> = files
            .iter()
            .map(|(path, metadata)| version(root.join(path), metadata))
            .collect();
        let known = self.known(&versions);
        if known.iter().all(Option::is_some) {
            return known;
        }
        if self.jobs.lock().insert(job) {
            let computing = tokio::spawn(Arc::clone(self).compute(job, versions.clone()));
            // What isn't ready goes on by itself.
            tokio::time::timeout(PATIENCE, computing).await.ok();
        }
        self.known(&versions)
    }

    fn known(&self, versions: &[Version]) -> Vec<Option<String>> {
        let known = self.known.lock();
        versions
            .iter()
            .map(|version| known.get(version).cloned())
            .collect()
    }

    async fn compute(self: Arc<Self>, job: JobId, versions: Vec<Version>) {
        let permit = self.one_at_a_time.acquire().await;
        let this = Arc::clone(&self);
        let computed = tokio::task::spawn_blocking(move || {
            for version in versions {
                this.compute_one(version);
            }
        });
        if let Err(error) = computed.await {
            tracing::warn!(%error, %job, "hashes of results could not be computed");
        }
        drop(permit);
        self.jobs.lock().remove(&job);
    }

    fn compute_one(&self, version: Version) {
        if self.known.lock().contains_key(&version) {
            return;
        }
        // A file that can't be read has no hash; whoever fetches it is told why.
        if let Ok(hash) = File::open(&version.path).and_then(onelane_tools::sha256_of) {
            let mut known = self.known.lock();
            if known.len() >= MOST_KNOWN {
                known.clear();
            }
            known.insert(version, hash);
        }
    }
}
