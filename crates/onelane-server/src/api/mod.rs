//! The native interface, one file per thing that can be asked.

pub(crate) mod events;
pub(crate) mod files;
pub(crate) mod health;
pub(crate) mod jobs;
pub(crate) mod logs;
pub(crate) mod queue;
pub(crate) mod submit;
pub(crate) mod tools;
