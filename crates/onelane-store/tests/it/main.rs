//! `SQLite` against the suite that every store must pass, and what only a file can get wrong.

#![expect(
    clippy::unwrap_used,
    reason = "clippy allows it in tests but not in what tests share"
)]

mod file;

/// An empty store in a folder of its own.
fn empty() -> (
    std::sync::Arc<onelane_store::sqlite::SqliteStore>,
    tempfile::TempDir,
) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("onelane.db");
    let store = onelane_store::sqlite::SqliteStore::open(&path).unwrap();
    (std::sync::Arc::new(store), folder)
}

mod conformance {
    onelane_store::conformance_suite!(super::empty());
}
