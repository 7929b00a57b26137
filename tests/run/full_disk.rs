//! A disk that fills up, for real: a small file system of its own, where this machine allows one.

use std::process::Command;

use serde_json::Value;

use crate::scratch::{Scratch, skipped};

/// Whether a file system can be mounted that nobody else sees; else says so.
fn can_mount(test: &str) -> bool {
    let mount = "mount -t tmpfs tmpfs /mnt";
    let mounted = Command::new("unshare")
        .args(["-rm", "sh", "-c", mount])
        .output();
    let can = mounted.is_ok_and(|mounted| mounted.status.success());
    if !can {
        skipped(test, "`unshare -rm` may not mount on this machine");
    }
    can
}

#[test]
fn what_was_answered_when_the_disk_was_full_is_stored() {
    if !can_mount("what_was_answered_when_the_disk_was_full_is_stored") {
        return;
    }
    let scratch = Scratch::new();
    scratch
        .rows(20_000)
        .job("backends: { a: { type: echo, delay: 20ms, price: { input: 1, output: 2 } } }");
    // In one of them not even the room is there that is kept free; in others the log is just about to be copied
    // into the database.
    for size in ["3m", "4m", "5m", "6m"] {
        let script = format!(
            "mkdir -p disk && mount -t tmpfs -o size={size} tmpfs disk || exit 99
             $RUNNER job.yaml --out disk/out; code=$?
             $RUNNER status disk/out --json; exit $code"
        );
        let ran = Command::new("unshare")
            .args(["-rm", "sh", "-c", &script])
            .env("RUNNER", env!("CARGO_BIN_EXE_runner"))
            .current_dir(scratch.path())
            .output()
            .unwrap();
        assert_eq!(ran.status.code(), Some(6), "{size}: {ran:?}");
        let error = String::from_utf8_lossy(&ran.stderr);
        assert!(error.contains("disk is full"), "{size}: {error}");
        let told: Value = serde_json::from_slice(&ran.stdout).unwrap();
        let (attempts, rows) = (&told["attempts"], &told["rows"]);
        assert!(attempts["total"].as_u64() > Some(0), "{size}: {told}");
        assert_eq!(
            attempts["total"], rows["by_status"]["answered"],
            "{size}: {told}"
        );
        assert_eq!(attempts["unknown"], 0, "{size}: {told}");
    }
}
