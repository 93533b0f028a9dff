//! Onelane.
fn main() {}
