//! What a browser sees.

pub(crate) mod index;
