//! Rules of the project that no lint knows: the direction of dependencies, where the tenant capability may be
//! made, licences, and that every file says what it is for.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests lie in the project").to_owned()
}

fn metadata(arguments: &[&str]) -> Value {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--locked"])
        .args(arguments)
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON")
}

/// All Rust files of a folder, below the root.
fn sources(folder: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("folders of the project can be read") {
            let path = entry.expect("entries can be read").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    assert!(!found.is_empty(), "no sources in `{folder}`");
    found
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root()).expect("sources lie in the project").display().to_string()
}

#[test]
fn dependencies_point_inwards() {
    let allowed = BTreeMap::from([
        ("stele", vec![]),
        ("stele-adapters", vec!["stele"]),
        ("stele-ingest", vec!["stele", "stele-adapters"]),
        ("stele-drain", vec!["stele", "stele-adapters"]),
        ("stele-setup", vec!["stele", "stele-adapters"]),
        ("stele-seal", vec!["stele", "stele-adapters"]),
        ("stele-compact", vec!["stele", "stele-adapters"]),
        ("stele-reconcile", vec!["stele", "stele-adapters"]),
        ("stele-watchdog", vec!["stele", "stele-adapters"]),
        ("stele-export", vec!["stele", "stele-adapters"]),
        ("stele-query", vec!["stele", "stele-adapters"]),
        ("stele-verify", vec!["stele", "stele-adapters"]),
        (
            "stele-local",
            vec![
                "stele",
                "stele-adapters",
                "stele-compact",
                "stele-drain",
                "stele-export",
                "stele-ingest",
                "stele-query",
                "stele-reconcile",
                "stele-seal",
            ],
        ),
        ("stele-cli", vec!["stele", "stele-adapters", "stele-local", "stele-seal", "stele-verify"]),
    ]);
    let metadata = metadata(&["--no-deps"]);
    let packages = metadata["packages"].as_array().expect("packages");
    for package in packages {
        let name = package["name"].as_str().expect("a name");
        if name == "stele-tests" {
            continue;
        }
        let allowed =
            allowed.get(name).unwrap_or_else(|| panic!("`{name}` has no place in the architecture"));
        for dependency in package["dependencies"].as_array().expect("dependencies") {
            let on = dependency["name"].as_str().expect("a name");
            if dependency["kind"].is_null() && on.starts_with("stele") {
                assert!(allowed.contains(&on), "`{name}` must not use `{on}`");
            }
        }
    }
    assert_eq!(packages.len(), allowed.len() + 1);
}

#[test]
fn the_pure_crate_knows_no_world() {
    let metadata = metadata(&["--no-deps"]);
    let pure = metadata["packages"].as_array().expect("packages").iter().find(|p| p["name"] == "stele");
    for dependency in pure.expect("the pure crate")["dependencies"].as_array().expect("dependencies") {
        let name = dependency["name"].as_str().expect("a name");
        let world =
            ["tokio", "aws", "parquet", "arrow", "hyper", "getrandom", "ureq", "dynoxide", "rusqlite"];
        assert!(!world.iter().any(|w| name.starts_with(w)), "the pure crate must not use `{name}`");
    }
}

#[test]
fn a_tenant_without_a_grant_is_made_by_the_system_alone() {
    let allowed = [
        "functions/stele/src/access.rs",
        // Over objects that their caller was given for this tenant.
        "functions/adapters/src/bundle/mod.rs",
        // For a message that carries ingest's MAC.
        "functions/adapters/src/tenants.rs",
        "functions/seal/src/sealing.rs",
        "functions/seal/src/rebuild.rs",
        "functions/seal/src/idle.rs",
        "functions/compact/src/lib.rs",
        "functions/compact/src/plan.rs",
        "functions/export/src/lib.rs",
        "functions/local/src/sealing.rs",
        "functions/local/src/archiving.rs",
        "functions/local/src/exporting.rs",
        "functions/reconcile/src/lib.rs",
        // For whoever runs the installation, past its API.
        "clients/cli/src/doctor/ask.rs",
        "clients/cli/src/retention/policy.rs",
    ];
    for folder in ["functions", "clients"] {
        for path in sources(folder) {
            let text = fs::read_to_string(&path).expect("sources are UTF-8");
            let name = shown(&path);
            // Tests and samples stand for the system.
            let product = text.split("#[cfg(test)]").next().unwrap_or_default();
            let is_test =
                ["/contract/", "tests.rs", "sample.rs", "/benches/"].iter().any(|t| name.contains(t));
            if product.contains("Tenant::on_record") && !is_test {
                assert!(allowed.contains(&name.as_str()), "`{name}` makes a tenant without a grant");
            }
        }
    }
}

#[test]
fn every_file_opens_with_what_it_is_for() {
    for folder in ["functions", "clients", "tests"] {
        for path in sources(folder) {
            let text = fs::read_to_string(&path).expect("sources are UTF-8");
            assert!(text.starts_with("//!"), "`{}` does not open with `//!`", shown(&path));
        }
    }
}

#[test]
fn nothing_is_left_undone_or_skipped() {
    let words = ["#[ign", "todo!", "unimpl", "FIX", "XX"].map(|w| match w {
        "#[ign" => "#[ignore".to_owned(),
        "todo!" => "todo!(".to_owned(),
        "unimpl" => "unimplemented!(".to_owned(),
        "FIX" => "FIXME".to_owned(),
        _ => "XXX".to_owned(),
    });
    for folder in ["functions", "clients", "tests"] {
        for path in sources(folder).into_iter().filter(|p| !p.ends_with("tests/src/tidy.rs")) {
            let text = fs::read_to_string(&path).expect("sources are UTF-8");
            for word in &words {
                assert!(!text.contains(word.as_str()), "`{}` contains `{word}`", shown(&path));
            }
        }
    }
}

#[test]
fn every_licence_is_one_we_accept() {
    let deny = fs::read_to_string(root().join("deny.toml")).expect("deny.toml is there");
    let list = deny.split("allow = [").nth(1).and_then(|rest| rest.split(']').next()).expect("a list");
    let accepted: BTreeSet<&str> = list.split('"').skip(1).step_by(2).collect();
    assert!(accepted.contains("MIT"));
    for package in metadata(&[])["packages"].as_array().expect("packages") {
        let licence = package["license"].as_str().unwrap_or("none");
        // `A OR B` leaves the choice, `A AND B` does not; older crates write `A/B` for OR.
        let fits = licence.replace('/', " OR ").split(" OR ").any(|choice| {
            choice.split(" AND ").all(|one| accepted.contains(one.trim_matches(['(', ')', ' '])))
        });
        assert!(fits, "`{}` has the licence `{licence}`", package["name"]);
    }
}
