//! What goes over the wire, shared by the server and the command line.
//!
//! Times are RFC 3339 in UTC; what does not exist yet is `null`.

mod job;
mod problem;
mod queue;
mod submit;
mod tool;

pub use job::{
    AttemptLinks, AttemptList, AttemptView, EtaView, FailureView, FileEntry, FileList, JobLinks,
    JobList, JobView, ProgressView, UsageView, WireState,
};
pub use problem::{ParamProblem, Problem};
pub use queue::QueueView;
pub use submit::SubmitBody;
pub use tool::{ResultView, ToolLinks, ToolList, ToolReload, ToolView};
