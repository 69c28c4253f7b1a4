//! A published Python client, unmodified, against this service: what it sends is understood, and what it reads
//! is there.

use crate::http::{DEMO, Service};
use std::path::Path;
use std::process::{Command, Output};

const CLIENT: &str = "auditledge==0.1.1";

fn run(command: &mut Command, what: &str) -> Output {
    let output = command.output().unwrap_or_else(|e| panic!("{what}: {e}; Python 3 with venv is needed"));
    assert!(
        output.status.success(),
        "{what}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

#[test]
fn the_published_python_client_works_unmodified() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    let venv = Path::new(env!("CARGO_TARGET_TMPDIR")).join("auditledge-0.1.1");
    let python = venv.join("bin/python");
    let is_there = |python: &Path| {
        let found = Command::new(python).args(["-c", "import auditledge"]).output();
        found.is_ok_and(|output| output.status.success())
    };
    if !is_there(&python) {
        run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv), "making a venv");
        let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", CLIENT];
        run(Command::new(&python).args(install), "installing the client");
    }
    // A service of its own: it counts what a tenant has.
    let service = Service::start(None);
    let script = tests.join("python/auditledge_client.py");
    let base = format!("{}/v1", service.base());
    let output = run(Command::new(&python).arg(script).args([&base, DEMO]), "the client's script");
    assert!(String::from_utf8_lossy(&output.stdout).ends_with("all checks passed\n"));
}
