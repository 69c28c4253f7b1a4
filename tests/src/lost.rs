//! What a data folder can lose while nobody runs, and that the next start makes good: the stream, the note of what
//! is sealed, heads, the whole database. And what it can't lose unnoticed: the end of a log.

use crate::kill::{Request, Sender, check};
use crate::process::{self, Stele};
use crate::shared_data;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use stele::layout;
use stele_adapters::dynamodb::local_client;
use stele_local::dynoxide::EmbeddedDynamo;
use tokio::runtime::Runtime;

const CONTROL_TABLE: &str = "stele-control";

/// Sends events, and waits until they are sealed.
fn send_and_seal(stele: &Stele, sender: &mut Sender, count: usize) {
    let requests: Vec<Request> = (0..count).map(|_| sender.request()).collect();
    sender.send_all(stele, requests);
    sender.read_back(stele);
}

/// Sends events and kills the program before it has sealed them all; says how many it had not.
fn leave_unsealed(data: &Path, sender: &mut Sender) -> usize {
    for _ in 0..20 {
        let stele = process::start(data);
        send_and_seal(&stele, sender, 3);
        let requests: Vec<Request> = (0..10).map(|_| sender.request()).collect();
        sender.send_all(&stele, requests);
        stele.kill();
        let sealed = process::sealed(data);
        let unsealed = sender.receipts.keys().filter(|id| !sealed.contains_key(id)).count();
        if unsealed > 0 {
            return unsealed;
        }
    }
    panic!("sealing is always faster than a kill")
}

/// Opens the database while the program does not run, as one who may do anything to it.
fn with_database<T>(data: &Path, work: impl AsyncFnOnce(&EmbeddedDynamo) -> T) -> T {
    let runtime = Runtime::new().unwrap();
    runtime.block_on(async {
        let dynamo = EmbeddedDynamo::start(Some(&data.join("dynamodb.sqlite"))).await.unwrap();
        let done = work(&dynamo).await;
        dynamo.stop().await;
        done
    })
}

/// Starts it, waits until everything is sealed, stops it and checks the folder.
fn start_and_check(data: &Path, sender: &mut Sender) {
    let stele = process::start(data);
    sender.read_back(&stele);
    send_and_seal(&stele, sender, 5);
    assert!(stele.stop().success());
    check(data, &sender.receipts);
}

fn without_stream(forget_note: bool) {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path();
    let mut sender = Sender::new(1, 1);
    let unsealed = leave_unsealed(data, &mut sender);
    let lost = with_database(data, async |dynamo| dynamo.lose_stream().await.unwrap());
    assert!(lost >= unsealed, "{lost} rows of the stream, but {unsealed} events are not sealed");
    let note = data.join("sealed-through");
    assert!(note.exists(), "something was sealed before");
    if forget_note {
        fs::remove_file(note).unwrap();
    }
    start_and_check(data, &mut sender);
}

#[test]
fn events_left_unsealed_whose_stream_is_gone_are_sealed_at_the_next_start() {
    without_stream(false);
}

#[test]
fn even_without_the_note_of_what_is_sealed() {
    without_stream(true);
}

/// What is done to the heads of all logs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Heads {
    /// They become what they were some segments ago.
    SetBack,
    Deleted,
}

/// Sets heads back or deletes them, before a start that sees every record again or only new ones.
fn with_other_heads(what: Heads, forget_note: bool) {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path();
    let mut sender = Sender::new(2, 2);
    let stele = process::start(data);
    send_and_seal(&stele, &mut sender, 10);
    assert!(stele.stop().success());
    // Items as they are, past our own code.
    let older = with_database(data, async |dynamo| {
        let client = local_client(dynamo.endpoint());
        let items = client.scan().table_name(CONTROL_TABLE).send().await.unwrap().items.unwrap();
        let is_head = |pk: &str| pk.starts_with("head#");
        items.into_iter().filter(|item| is_head(item["pk"].as_s().unwrap())).collect::<Vec<_>>()
    });
    assert!(older.len() > 1, "every tenant has a head");
    let stele = process::start(data);
    for _ in 0..3 {
        send_and_seal(&stele, &mut sender, 5);
    }
    assert!(stele.stop().success());
    with_database(data, async |dynamo| {
        let client = local_client(dynamo.endpoint());
        for mut item in older {
            match what {
                Heads::SetBack => {
                    client.put_item().table_name(CONTROL_TABLE).set_item(Some(item)).send().await.unwrap();
                }
                Heads::Deleted => {
                    item.retain(|name, _| name == "pk" || name == "sk");
                    client.delete_item().table_name(CONTROL_TABLE).set_key(Some(item)).send().await.unwrap();
                }
            }
        }
    });
    if forget_note {
        fs::remove_file(data.join("sealed-through")).unwrap();
    }
    start_and_check(data, &mut sender);
}

#[test]
fn heads_set_back_neither_fork_a_log_nor_seal_anything_twice() {
    with_other_heads(Heads::SetBack, false);
    with_other_heads(Heads::SetBack, true);
}

#[test]
fn heads_deleted_neither_fork_a_log_nor_seal_anything_twice() {
    with_other_heads(Heads::Deleted, false);
    with_other_heads(Heads::Deleted, true);
}

/// The checkpoint of a tenant, saved as a person would.
fn save_checkpoint(stele: &Stele, tenant: &str, path: &Path) {
    let output =
        process::run(["checkpoint", "--tenant", tenant, "--url", &stele.base, "--key", process::KEY]);
    assert!(output.status.success(), "{:?}", process::said(&output));
    fs::write(path, output.stdout).unwrap();
}

fn import(stele: &Stele, file: &Path) -> (Option<i32>, String) {
    let file = file.to_str().unwrap();
    process::said(&process::run(["import", file, "--url", &stele.base, "--key", process::KEY]))
}

#[test]
fn a_lost_database_is_rebuilt_and_the_logs_go_on() {
    let Some(shared) = shared_data() else {
        eprintln!("not run: the shared data is not here");
        return;
    };
    let events = shared.join("saas-events.ndjson");
    let folder = tempfile::tempdir().unwrap();
    let (data, saved) = (folder.path(), folder.path().join("saved.txt"));
    let mut sender = Sender::new(3, 3);
    let stele = process::start(data);
    let (code, text) = import(&stele, &events);
    assert!(code == Some(0) && text.contains("228 accepted, 0 replayed, 0 refused"), "{text}");
    let requests: Vec<Request> = (0..10).map(|_| sender.request()).collect();
    sender.send_all(&stele, requests.clone());
    sender.read_back(&stele);
    save_checkpoint(&stele, "org_0", &saved);
    assert!(stele.stop().success());
    let before = process::sealed(data);

    for file in fs::read_dir(data).unwrap().map(|entry| entry.unwrap().path()) {
        if file.file_name().is_some_and(|name| name.to_string_lossy().starts_with("dynamodb.sqlite")) {
            fs::remove_file(file).unwrap();
        }
    }
    let mut rebuild = process::command(["rebuild", "--data"]);
    let (code, text) = process::said(&rebuild.arg(data).output().unwrap());
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains(&format!("{} events are back", before.len())), "{text}");

    let stele = process::start(data);
    let (code, text) = import(&stele, &events);
    assert!(code == Some(0) && text.contains("0 accepted, 228 replayed, 0 refused"), "{text}");
    // Each must be answered with the receipt it had: the sender holds it to that. What was only remembered for a
    // day (a key, an id without a time) is lost with the database.
    let replayed = requests.into_iter().filter(Request::has_ids_of_ours);
    sender.send_all(&stele, replayed);
    send_and_seal(&stele, &mut sender, 10);
    assert!(stele.stop().success());
    let after = process::sealed(data);
    for (id, sealed) in &before {
        assert_eq!(after.get(id), Some(sealed), "`{id}`");
    }
    for id in after.keys().filter(|id| !before.contains_key(id)) {
        assert!(sender.receipts.contains_key(id), "`{id}` is new and was never acknowledged as such");
    }
    let (code, text) = process::verify(data, &["--since", saved.to_str().unwrap()]);
    assert!(code == Some(0) && text.contains("contains 1 saved checkpoint"), "{text}");
}

#[test]
fn the_end_of_a_log_removed_is_told_by_a_saved_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let (data, saved) = (folder.path(), folder.path().join("saved.txt"));
    let stele = process::start(data);
    let mut sender = Sender::new(4, 4);
    for _ in 0..3 {
        send_and_seal(&stele, &mut sender, 6);
    }
    save_checkpoint(&stele, "org_0", &saved);
    assert!(stele.stop().success());
    check(data, &sender.receipts);

    let last = |folder: &str, is_kind: &dyn Fn(&str) -> bool| -> PathBuf {
        let mut files = Vec::new();
        let folder = stele_local::archive(data).join(folder).join("tenant_id=org_0");
        process::files_below(&folder, &mut files);
        files.retain(|path| is_kind(path.to_str().unwrap()));
        files.into_iter().max().expect("there are some")
    };
    let removed = [
        last(layout::SEGMENTS, &|_| true),
        last(layout::CHECKPOINTS, &|name| name.ends_with(".manifest")),
        last(layout::CHECKPOINTS, &|name| !name.ends_with(".manifest")),
    ];
    for path in &removed {
        fs::remove_file(path).unwrap();
    }
    let (code, text) = process::verify(data, &[]);
    assert_eq!(code, Some(0), "without an older checkpoint nobody can tell: {text}");
    let (code, text) = process::verify(data, &["--since", saved.to_str().unwrap(), "--json"]);
    assert_eq!(code, Some(1), "{text}");
    let report: Value = serde_json::from_str(&text[..=text.rfind('}').unwrap()]).unwrap();
    let log = report["logs"].as_array().unwrap().iter().find(|log| log["tenant"] == "org_0").unwrap();
    assert_eq!(log["verdict"], "refuted", "{text}");
    let finding = &log["findings"][0];
    let segment = removed[0].strip_prefix(stele_local::archive(data)).unwrap().to_str().unwrap();
    let told = format!("{} {} {}", finding["at"], finding["expected"], finding["found"]);
    assert!(told.contains(segment) && told.contains("saved checkpoint"), "it names both: {told}");
}
