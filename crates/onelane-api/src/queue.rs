use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::JobView;

/// The queue.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct QueueView {
    /// How many wait.
    pub queued: u64,
    /// How many start or run.
    pub running: u64,
    /// Both together.
    pub backlog: u64,
    /// Nothing new starts while it is paused.
    pub paused: bool,
    /// What holds the processes of new attempts together: `cgroup`, `namespace` or `guard`.
    #[serde(default)]
    pub process_control: String,
    /// The running jobs and the next ones.
    pub jobs: Vec<JobView>,
}
