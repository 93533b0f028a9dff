//! Other systems' interfaces over the same engine.

pub(crate) mod starting_point;
