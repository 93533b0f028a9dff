//! House rules as tests: the walls between the crates.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

/// What each crate may depend on, besides the world's libraries. Tests may do more.
const WALLS: [(&str, &[&str]); 11] = [
    ("onelane-core", &[]),
    ("onelane-seq", &[]),
    ("onelane-api", &[]),
    ("onelane-search", &[]),
    ("onelane-tools", &["onelane-core", "onelane-seq"]),
    ("onelane-store", &["onelane-core"]),
    ("onelane-exec", &["onelane-core"]),
    (
        "onelane-engine",
        &[
            "onelane-core",
            "onelane-exec",
            "onelane-store",
            "onelane-tools",
        ],
    ),
    (
        "onelane-server",
        &[
            "onelane-api",
            "onelane-core",
            "onelane-engine",
            "onelane-tools",
        ],
    ),
    ("onelane-testkit", &[]),
    // It measures from outside.
    ("onelane-bench", &[]),
];

/// Libraries that belong to one crate, or few.
const LIBRARIES: [(&str, &[&str]); 4] = [
    ("rusqlite", &["onelane-store", "onelane-bench"]),
    ("axum", &["onelane-server", "onelane", "onelane-bench"]),
    ("nix", &["onelane-exec", "onelane-testkit"]),
    (
        "tokio",
        &[
            "onelane-store",
            "onelane-exec",
            "onelane-engine",
            "onelane-server",
            "onelane-testkit",
            "onelane-bench",
            "onelane",
        ],
    ),
];

fn dependencies(name: &str) -> BTreeSet<String> {
    let text = fs::read_to_string(root().join("crates").join(name).join("Cargo.toml")).unwrap();
    let own = text.split("[dependencies]").nth(1).unwrap_or_default();
    let lines = own.lines().take_while(|line| !line.starts_with('['));
    let names = lines.filter_map(|line| line.split(['.', ' ', '=']).next());
    names
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect()
}

#[test]
fn no_crate_looks_over_its_wall() {
    for (name, allowed) in WALLS {
        for other in dependencies(name)
            .iter()
            .filter(|other| other.starts_with("onelane"))
        {
            assert!(
                allowed.contains(&other.as_str()),
                "crates/{name}/Cargo.toml: {name} must not know {other}"
            );
        }
    }
}

#[test]
fn sql_http_and_processes_stay_in_their_crates() {
    let crates = WALLS.iter().map(|(name, _)| *name).chain(["onelane"]);
    for name in crates {
        let dependencies = dependencies(name);
        for (library, homes) in LIBRARIES {
            let is_home = homes.contains(&name);
            assert!(
                is_home || !dependencies.contains(library),
                "crates/{name}/Cargo.toml: {library} belongs to {homes:?}"
            );
        }
    }
}

#[test]
fn every_crate_is_in_the_table_of_the_architecture() {
    let page = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    for entry in fs::read_dir(root().join("crates")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(
            page.contains(&format!("| `{name}` |")),
            "ARCHITECTURE.md doesn't tell what `{name}` does"
        );
    }
}
