//! A sample of the hostile matrix: `cargo xtask hostile` runs all of it.

use onelane_testkit::{hostile, hostile_child};

use crate::BINARY;

/// One of each sort: escaped, deaf, never the same, held by another, without environment, many.
const SAMPLE: [&str; 8] = [
    "double-fork",
    "blocks-signals",
    "fork-chain",
    "orphans-hold-pipes",
    "clears-environment",
    "stops-itself",
    "ptrace-me",
    "nested-subreaper",
];

async fn nothing_is_left(level: &str) {
    let folder = tempfile::tempdir().unwrap();
    let child = folder.path().join("hostile-child");
    std::fs::copy(hostile_child::beside(BINARY), &child).unwrap();
    let matrix = hostile::Matrix {
        binary: BINARY.into(),
        child,
        folder: folder.path().to_owned(),
        level: level.to_owned(),
        behaviours: SAMPLE.to_vec(),
        stops: hostile::STOPS.to_vec(),
        runs: 1,
        user: None,
    };
    let Some(table) = hostile::run(&matrix).await else {
        assert_ne!(level, "guard", "the guard's walk works everywhere");
        eprintln!("SKIPPED: the level {level} is not to be had on this machine");
        return;
    };
    eprintln!("{}", hostile::show(&matrix, &table));
    let violations: Vec<_> = table.values().flat_map(|cell| &cell.violations).collect();
    assert!(violations.is_empty(), "{violations:#?}");
}

#[tokio::test]
async fn nothing_is_left_of_a_hostile_tree_with_control_groups() {
    nothing_is_left("cgroup").await;
}

#[tokio::test]
async fn nothing_is_left_of_a_hostile_tree_with_a_process_namespace() {
    nothing_is_left("namespace").await;
}

#[tokio::test]
async fn nothing_is_left_of_a_hostile_tree_with_the_guard_alone() {
    nothing_is_left("guard").await;
}
