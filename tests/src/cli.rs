//! The commands as somebody types them: what they print, what they leave behind, how they end.

use crate::process::{self, Client, Stele};
use crate::shared_data;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// Runs a command against a running program; exit code and all it said.
fn asked(stele: &Stele, arguments: &[&str]) -> (Option<i32>, String) {
    let server = ["--url", &stele.base, "--key", process::KEY];
    process::said(&process::run(arguments.iter().chain(&server)))
}

/// Passes connections on to a server and keeps what it answers.
struct Listening {
    base: String,
    answers: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Listening {
    fn to(stele: &Stele) -> Listening {
        let server = stele.base.trim_start_matches("http://").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let answers = Arc::new(Mutex::new(Vec::new()));
        let kept = answers.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = TcpStream::connect(&server) else { return };
                let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut from, &mut to);
                    let _ = to.shutdown(Shutdown::Write);
                });
                let kept = kept.clone();
                std::thread::spawn(move || pass_on(server, client, &kept));
            }
        });
        Listening { base, answers }
    }

    /// The receipts of all batches answered, in order.
    fn take_receipts(&self) -> Vec<(u64, Value, Value)> {
        let answers = std::mem::take(&mut *self.answers.lock().unwrap());
        let mut receipts = Vec::new();
        for answer in answers {
            let mut rest = answer.as_slice();
            while let Some(end) = rest.windows(4).position(|w| w == b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&rest[..end]).to_lowercase();
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
                let body_end = end + 4 + length.parse::<usize>().unwrap();
                let body: Value = serde_json::from_slice(&rest[end + 4..body_end]).unwrap();
                for item in body["results"].as_array().unwrap() {
                    let status = item["status"].as_u64().unwrap();
                    receipts.push((status, item["id"].clone(), item["receipt"].clone()));
                }
                rest = &rest[body_end..];
            }
        }
        receipts
    }
}

fn pass_on(mut server: TcpStream, mut client: TcpStream, kept: &Mutex<Vec<Vec<u8>>>) {
    let (mut all, mut buffer) = (Vec::new(), [0; 16 * 1024]);
    while let Ok(n @ 1..) = server.read(&mut buffer) {
        all.extend_from_slice(&buffer[..n]);
        if client.write_all(&buffer[..n]).is_err() {
            break;
        }
    }
    kept.lock().unwrap().push(all);
    let _ = client.shutdown(Shutdown::Both);
}

#[test]
fn real_events_are_imported_once_and_then_replayed_with_the_same_receipts() {
    let Some(shared) = shared_data() else {
        eprintln!("not run: the shared data is not here");
        return;
    };
    let events = shared.join("saas-events.ndjson");
    let folder = tempfile::tempdir().unwrap();
    let stele = process::start(folder.path());
    let listening = Listening::to(&stele);
    let mut before = Vec::new();
    for (again, counts) in
        [(false, "228 accepted, 0 replayed, 0 refused"), (true, "0 accepted, 228 replayed, 0 refused")]
    {
        let file = events.to_str().unwrap();
        let import = ["import", file, "--url", &listening.base, "--key", process::KEY];
        let (code, text) = process::said(&process::run(import));
        assert!(code == Some(0) && text.contains(counts), "{text}");
        let mut receipts = Vec::new();
        process::eventually("all answers have passed", || {
            receipts.extend(listening.take_receipts());
            receipts.len() >= 228
        });
        assert_eq!(receipts.len(), 228);
        for ((status, id, receipt), now) in before.iter().zip(&receipts) {
            assert_eq!((status, &now.0), (&201, &200));
            assert_eq!((id, receipt), (&now.1, &now.2));
        }
        assert_eq!(before.len(), if again { 228 } else { 0 });
        before = receipts;
    }
    assert!(stele.stop().success());
    let sealed = process::sealed(folder.path());
    assert_eq!(sealed.len(), 228);
    let tenants: BTreeMap<&str, ()> = sealed.values().map(|sealed| (sealed.tenant.as_str(), ())).collect();
    assert_eq!(tenants.len(), 28);
    for (_, id, receipt) in &before {
        let id = stele::id::EventId::parse(id.as_str().unwrap()).unwrap();
        assert_eq!(receipt["leaf_hash"].as_str(), Some(sealed[&id].leaf_hash.as_str()));
    }
    let (code, report) = process::verify(folder.path(), &[]);
    assert!(code == Some(0) && report.contains("PROVEN: 28 logs, 228 events"), "{report}");
}

/// A data folder with a few sealed events.
fn small_log(data: &Path) {
    let stele = process::start(data);
    let client = Client::new();
    for n in 0..5 {
        let event = format!(r#"{{"tenant_id":"org_a","actor":{{"id":"u{n}"}},"action":"user.created"}}"#);
        let (status, body) = client.post(&format!("{}/v1/events", stele.base), None, &event).unwrap();
        assert_eq!(status, 201, "{body}");
    }
    assert!(stele.stop().success());
}

#[test]
fn verify_says_proven_refuted_or_could_not_check_by_its_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    assert_eq!(process::verify(&data, &[]).0, Some(2), "there is no such folder");
    fs::create_dir_all(stele_local::archive(&data)).unwrap();
    let (code, report) = process::verify(&data, &[]);
    assert!(code == Some(2) && report.contains("holds no log"), "{report}");
    fs::remove_dir_all(&data).unwrap();

    small_log(&data);
    let (code, report) = process::verify(&data, &["--json"]);
    assert_eq!(code, Some(0), "{report}");
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!((&report["verdict"], &report["logs"][0]["leaves_proven"]), (&"proven".into(), &5.into()));

    let mut files = Vec::new();
    process::files_below(&stele_local::archive(&data).join(stele::layout::SEGMENTS), &mut files);
    let (file, good) = (&files[0], fs::read(&files[0]).unwrap());
    let mut bad = good.clone();
    bad[good.len() / 3] ^= 1;
    // Its retention, the file's time, stays as it was: the byte alone must be found.
    let retention = fs::metadata(file).unwrap().modified().unwrap();
    let write = |bytes: &[u8]| {
        fs::set_permissions(file, fs::Permissions::from_mode(0o644)).unwrap();
        fs::write(file, bytes).unwrap();
        fs::File::open(file).unwrap().set_modified(retention).unwrap();
    };
    write(&bad);
    let (code, report) = process::verify(&data, &[]);
    let key = file.strip_prefix(stele_local::archive(&data)).unwrap().to_str().unwrap();
    assert!(code == Some(1) && report.contains(key) && report.contains("REFUTED"), "{report}");
    write(&good);
    assert_eq!(process::verify(&data, &[]).0, Some(0), "the right bytes are back");
}

#[test]
fn a_log_that_is_being_written_is_proven_as_far_as_it_is_signed() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    small_log(&data);
    let stele = process::start(&data);
    let written = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let client = Client::new();
            for n in 0..1_500 {
                let tenant = ["org_a", "org_b"][n % 2];
                let event =
                    format!(r#"{{"tenant_id":"{tenant}","actor":{{"id":"u{n}"}},"action":"user.created"}}"#);
                client.post(&format!("{}/v1/events", stele.base), None, &event).unwrap();
            }
            written.store(true, Ordering::Relaxed);
        });
        let mut proven = 0;
        while !written.load(Ordering::Relaxed) {
            let (code, report) = process::verify(&data, &[]);
            assert_ne!(code, Some(1), "nothing is wrong with it: {report}");
            proven += usize::from(code == Some(0));
        }
        assert!(proven > 0, "not once was all of it signed");
    });
    assert!(stele.stop().success());
    assert_eq!(process::verify(&data, &[]).0, Some(0));
}

#[test]
fn generate_gives_the_same_bytes_for_the_same_arguments() {
    let generate = |seed: &str| {
        let output =
            process::run(["generate", "--events", "500", "--seed", seed, "--until", "2026-05-01", "--ids"]);
        assert!(output.status.success());
        output.stdout
    };
    assert_eq!(generate("7"), generate("7"));
    assert_ne!(generate("7"), generate("8"));
    assert_eq!(generate("7").iter().filter(|b| **b == b'\n').count(), 500);
}

#[test]
fn a_key_is_created_listed_used_and_revoked() {
    let folder = tempfile::tempdir().unwrap();
    let stele = process::start(folder.path());
    let output = process::run([
        "keys",
        "create",
        "--name",
        "ci",
        "--tenant",
        "org_a",
        "--scope",
        "events:write",
        "--url",
        &stele.base,
        "--key",
        process::KEY,
    ]);
    let key = String::from_utf8(output.stdout).unwrap().trim().to_owned();
    assert!(output.status.success() && key.starts_with("stele_"), "{key}");
    let key_id = key.split('_').nth(2).unwrap();

    let send = |event: &str| {
        let mut send = process::command(["send", "-", "--url", &stele.base, "--key", &key]);
        let send = send.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
        let mut send = send.stderr(std::process::Stdio::piped()).spawn().unwrap();
        send.stdin.take().unwrap().write_all(event.as_bytes()).unwrap();
        process::said(&send.wait_with_output().unwrap())
    };
    let event = r#"{"actor":{"id":"u"},"action":"user.created"}"#;
    let (code, text) = send(event);
    assert_eq!(code, Some(0), "a key of a tenant implies it: {text}");
    let (code, text) = send(r#"{"tenant_id":"org_b","actor":{"id":"u"},"action":"user.created"}"#);
    assert_eq!(code, Some(1), "and opens no other: {text}");

    let (code, text) = asked(&stele, &["keys", "list"]);
    let row = text.lines().find(|line| line.starts_with(key_id)).unwrap_or_else(|| panic!("{text}"));
    assert!(
        code == Some(0) && row.contains("org_a") && row.contains("valid") && row.contains("ci"),
        "{text}"
    );
    assert!(!text.contains(&key), "a key is shown once");
    let at_rest: Vec<u8> = ["dynamodb.sqlite", "dynamodb.sqlite-wal"]
        .iter()
        .flat_map(|name| fs::read(folder.path().join(name)).unwrap_or_default())
        .collect();
    assert!(!at_rest.windows(key.len()).any(|bytes| bytes == key.as_bytes()), "a key is stored as its hash");

    let (code, text) = asked(&stele, &["keys", "revoke", key_id]);
    assert_eq!(code, Some(0), "{text}");
    let (_, text) = asked(&stele, &["keys", "list", "--tenant", "org_a"]);
    assert!(text.contains("revoked"), "{text}");
    let (code, text) = send(event);
    assert!(code == Some(1) && text.contains("invalid_key"), "{text}");
}

#[test]
fn without_a_key_dev_makes_two_and_keeps_them_for_its_owner_alone() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let arguments = ["--data", data.to_str().unwrap()];
    let keys = |stele: &Stele| -> Vec<String> {
        stele
            .welcome
            .lines()
            .filter_map(|line| line.split_whitespace().find(|word| word.starts_with("stele_dev_")))
            .map(|word| word.trim_end_matches('\'').to_owned())
            .take(2)
            .collect()
    };
    let stele = process::spawn_with(&arguments).ready();
    let made = keys(&stele);
    assert_eq!(made.len(), 2, "{}", stele.welcome);
    assert!(stele.welcome.contains("key of org_demo") && stele.welcome.matches("curl ").count() == 3);

    // Commands on this machine find the platform key by themselves.
    let output = process::run(["keys", "list", "--url", &stele.base, "--data", arguments[1]]);
    assert_eq!(process::said(&output).0, Some(0), "{:?}", process::said(&output));
    assert!(stele.stop().success());

    let secrets = data.join("secrets");
    assert_eq!(fs::metadata(&secrets).unwrap().permissions().mode() & 0o777, 0o700);
    let mut files = Vec::<PathBuf>::new();
    process::files_below(&secrets, &mut files);
    assert_eq!(files.len(), 3);
    for file in files {
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600, "{}", file.display());
    }
    let stele = process::spawn_with(&arguments).ready();
    assert_eq!(keys(&stele), made, "the same keys at the next start");
}

#[test]
fn a_second_dev_on_one_folder_is_refused_and_the_first_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let stele = process::start(folder.path());
    let data = folder.path().to_str().unwrap();
    let (code, text) = process::said(&process::run(["dev", "--listen", "127.0.0.1:0", "--data", data]));
    assert!(code == Some(2) && text.contains(data) && text.contains("another"), "{text}");
    let (code, text) = process::said(&process::run(["rebuild", "--data", data]));
    assert_eq!(code, Some(2), "a rebuild beside it too: {text}");
    assert_eq!(Client::new().get(&format!("{}/v1/health", stele.base)).unwrap().0, 200);
}

#[test]
fn a_port_that_is_taken_is_told_with_what_to_do() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let arguments = ["dev", "--listen", &address, "--data", data.to_str().unwrap()];
    let (code, text) = process::said(&process::run(arguments));
    assert!(code == Some(2) && text.contains(&address) && text.contains("--listen 127.0.0.1:0"), "{text}");
    assert!(!data.exists(), "nothing was begun");
}

#[test]
fn in_memory_it_does_the_same_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut dev = process::command(["dev", "--memory", "--listen", "127.0.0.1:0", "--key", process::KEY]);
    dev.current_dir(folder.path());
    let stele = process::start_as(dev);
    assert!(stele.welcome.contains("memory"), "{}", stele.welcome);
    let client = Client::new();
    let event = r#"{"tenant_id":"org_a","actor":{"id":"u"},"action":"user.created"}"#;
    let (status, body) = client.post(&format!("{}/v1/events", stele.base), None, event).unwrap();
    assert_eq!(status, 201, "{body}");
    let url = format!("{}/v1/events/{}?tenant_id=org_a", stele.base, body["id"].as_str().unwrap());
    process::eventually("it is sealed", || client.get(&url).unwrap().1["integrity"]["state"] == "sealed");
    assert!(stele.stop().success());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn retention_is_previewed_before_it_is_changed_and_holds_are_placed_and_released() {
    let folder = tempfile::tempdir().unwrap();
    let stele = process::start(folder.path());
    let event = r#"{"tenant_id":"org_a","actor":{"id":"u"},"action":"user.created"}"#;
    let (status, body) = Client::new().post(&format!("{}/v1/events", stele.base), None, event).unwrap();
    assert_eq!(status, 201, "{body}");

    let set = ["retention", "set", "--tenant", "org_a", "--class", "2557"];
    let (code, text) = asked(&stele, &set);
    assert!(code == Some(0) && text.contains("class: 2557 instead of 365"), "{text}");
    assert!(text.contains("can't be undone:") && text.contains("nothing was changed"), "{text}");
    let show = ["retention", "show", "--tenant", "org_a"];
    assert!(asked(&stele, &show).1.contains(r#""class_days": 365"#));
    let (code, text) = asked(&stele, &[&set[..], &["--yes"]].concat());
    assert!(code == Some(0) && !text.contains("nothing was changed"), "{text}");
    assert!(asked(&stele, &show).1.contains(r#""class_days": 2557"#));
    let shorter = ["retention", "set", "--tenant", "org_a", "--class", "90", "--applies-to", "all", "--yes"];
    let (code, text) = asked(&stele, &shorter);
    assert!(code == Some(1) && text.contains("retention_cannot_shorten"), "{text}");

    let place = ["hold", "place", "--tenant", "org_a", "--from", "2026-01-01", "--reason", "case 7"];
    let (code, text) = asked(&stele, &place);
    let id = text.lines().find(|line| line.starts_with("hold_")).unwrap_or_else(|| panic!("{text}"));
    assert_eq!((code, id.len()), (Some(0), 37), "{text}");
    let (_, text) = asked(&stele, &["hold", "list", "--tenant", "org_a"]);
    assert!(text.contains(id) && text.contains("case 7") && text.contains("(open)"), "{text}");
    let (code, text) = asked(&stele, &["hold", "release", id, "--tenant", "org_a"]);
    assert!(code == Some(0) && text.contains("released for good"), "{text}");
    let (code, text) = asked(&stele, &["hold", "release", "hold_0", "--tenant", "org_a"]);
    assert!(code == Some(1) && text.contains("not_found"), "{text}");
}

#[test]
fn events_are_queried_in_every_form_and_followed_across_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let stele = process::start(folder.path());
    let send = |base: &str, n: usize, more: &str| {
        let event =
            format!(r#"{{"tenant_id":"org_a","actor":{{"id":"u{n}"}},"action":"user.created"{more}}}"#);
        let (status, body) = Client::new().post(&format!("{base}/v1/events"), None, &event).unwrap();
        assert_eq!(status, 201, "{body}");
        body["id"].as_str().unwrap().to_owned()
    };
    let ids: Vec<String> = (0..5).map(|n| send(&stele.base, n, r#","metadata":{"plan":"=1+1"}"#)).collect();
    let denied = send(&stele.base, 7, r#","outcome":"denied","reason":"not hers""#);
    let query = |more: &[&str]| asked(&stele, &[&["query", "--tenant", "org_a"], more].concat());

    let (code, text) = query(&["--q", "outcome:denied", "--tz", "+02:00"]);
    assert!(code == Some(0) && text.contains(&denied) && text.contains("+02:00"), "{text}");
    assert_eq!(text.lines().count(), 2, "{text}");
    let (_, text) = query(&["--all", "--format", "json", "--order", "asc"]);
    let all: Value = serde_json::from_str(&text).unwrap();
    let first: Vec<&str> =
        all.as_array().unwrap().iter().take(5).map(|e| e["id"].as_str().unwrap()).collect();
    assert_eq!(first, ids);
    let (_, text) = query(&["--format", "csv", "--actor", "u3"]);
    assert!(text.starts_with("id,occurred_at,") && text.contains(r#""{""plan"":""=1+1""}""#), "{text}");
    let (_, text) = query(&["--format", "json", "--actor", "nobody"]);
    assert_eq!(text, "[]\n");
    let (code, text) = query(&["--q", "outcome:denied actr:u1"]);
    assert!(
        code == Some(1) && text.contains("                 ^") && text.contains("did you mean `actor`?"),
        "{text}"
    );
    let (code, text) = query(&["--explain", "--q", "changes./plan:pro", "--actor", "u1"]);
    assert!(
        code == Some(0) && text.contains("index: actor u1") && text.contains("WHERE tenant_id = ?"),
        "{text}"
    );
    assert!(text.contains("actor.id:u1 changes./plan:pro"), "{text}");

    // Followed, while the server goes away and comes back.
    let once = asked(&stele, &["tail", "--tenant", "org_a", "--once", "--limit", "3", "--tz", "utc"]).1;
    assert!(once.lines().count() == 3 && once.contains("u7") && once.contains("denied  not hers"), "{once}");
    let port = stele.base.rsplit(':').next().unwrap().to_owned();
    let mut tail =
        process::command(["tail", "--tenant", "org_a", "--json", "--limit", "1", "--url", &stele.base]);
    let mut tail =
        tail.args(["--key", process::KEY]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let lines = BufReader::new(tail.stdout.take().unwrap()).lines();
    let (sender, followed) = std::sync::mpsc::channel();
    std::thread::spawn(move || lines.map_while(Result::ok).for_each(|line| drop(sender.send(line))));
    let next = || -> Value {
        let line = followed.recv_timeout(std::time::Duration::from_secs(30)).expect("an event is shown");
        serde_json::from_str(&line).unwrap()
    };
    assert_eq!(next()["id"], *denied);
    let fresh = send(&stele.base, 8, "");
    assert_eq!(next()["id"], *fresh);
    assert!(stele.stop().success());
    let mut dev =
        process::command(["dev", "--listen", &format!("127.0.0.1:{port}"), "--key", process::KEY, "--data"]);
    dev.arg(folder.path());
    let stele = process::start_as(dev);
    let later = send(&stele.base, 9, "");
    assert_eq!(next()["id"], *later, "nothing is shown twice");
    tail.kill().unwrap();
    tail.wait().unwrap();
}

#[test]
fn the_report_lists_every_object_and_finds_a_lock_that_is_too_short() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path();
    let report = |more: &[&str]| {
        let report = ["retention", "report", "--data", data.to_str().unwrap()];
        process::said(&process::run(report.iter().chain(more)))
    };
    let empty = data.join("archive");
    fs::create_dir_all(&empty).unwrap();
    let (code, text) = report(&[]);
    assert!(code == Some(2) && text.contains("nothing was checked"), "{text}");
    fs::remove_dir(&empty).unwrap();

    small_log(data);
    let mut files = Vec::new();
    process::files_below(&data.join("archive"), &mut files);
    let is_object = |file: &&PathBuf| {
        !file
            .strip_prefix(data)
            .unwrap()
            .components()
            .any(|part| part.as_os_str().to_string_lossy().starts_with('.'))
    };
    let objects: Vec<&PathBuf> = files.iter().filter(is_object).collect();
    let (code, text) = report(&[]);
    assert!(code == Some(0) && text.contains("policy by the database"), "{text}");
    assert!(text.contains(&format!("{} objects: 0 with drift", objects.len())), "{text}");
    let (code, text) = report(&["--json"]);
    let listed: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
    assert_eq!((code, listed["objects"].as_array().unwrap().len()), (Some(0), objects.len()));
    assert_eq!(listed["objects"][0]["mode"], "folder");

    // Whoever owns the folder can shorten a lock, which is a file's time; it shows.
    let segment = objects.iter().find(|file| file.starts_with(data.join("archive/segments"))).unwrap();
    let locked = fs::metadata(segment).unwrap().modified().unwrap();
    let day = std::time::Duration::from_secs(24 * 60 * 60);
    fs::File::open(segment).unwrap().set_modified(locked - day).unwrap();
    let (code, text) = report(&["--tenant", "org_a"]);
    assert!(code == Some(1) && text.contains("drift: it is locked until"), "{text}");
    assert!(text.contains(": 1 with drift, 0 could not be checked"), "{text}");
    fs::File::open(segment).unwrap().set_modified(locked).unwrap();

    for file in fs::read_dir(data).unwrap().map(|entry| entry.unwrap().path()) {
        if file.file_name().unwrap().to_string_lossy().starts_with("dynamodb.sqlite") {
            fs::remove_file(file).unwrap();
        }
    }
    let (code, text) = report(&[]);
    assert!(code == Some(0) && text.contains("policy by the objects"), "{text}");
    let stray = data.join("archive/segments/stray");
    fs::write(&stray, "x").unwrap();
    let (code, text) = report(&[]);
    assert!(code == Some(1) && text.contains("nobody of us writes such a key"), "{text}");
}

#[test]
fn an_export_is_fetched_whole_taken_up_where_it_broke_and_held_against_its_hash() {
    let folder = tempfile::tempdir().unwrap();
    let stele = process::start(&folder.path().join("data"));
    let events = folder.path().join("events.ndjson");
    let line = r#"{"tenant_id":"org_a","actor":{"id":"u1"},"action":"invoice.deleted"}"#;
    fs::write(&events, format!("{line}\n").repeat(40)).unwrap();
    let (code, text) = asked(&stele, &["import", events.to_str().unwrap()]);
    assert_eq!(code, Some(0), "{text}");
    let out = folder.path().join("all.jsonl");
    let path = out.to_str().unwrap();
    let export =
        |more: &[&str]| asked(&stele, &[&["export", "--tenant", "org_a", "--out", path], more].concat());
    let mut id = String::new();
    process::eventually("all of it is sealed and exported", || {
        let _ = fs::remove_file(&out);
        let (code, text) = export(&["--format", "jsonl", "--action", "invoice.*"]);
        assert_eq!(code, Some(0), "{text}");
        id = text[text.find("exp_").unwrap()..][..36].to_owned();
        fs::read_to_string(&out).unwrap().lines().filter(|line| line.contains("invoice.deleted")).count()
            == 40
    });
    let whole = fs::read(&out).unwrap();
    let (code, text) = export(&["--format", "jsonl"]);
    assert!(code == Some(2) && text.contains("is there already"), "{text}");

    // Broken off in the middle, and taken up; then with other bytes before.
    fs::remove_file(&out).unwrap();
    let part = folder.path().join("all.jsonl.part");
    fs::write(&part, &whole[..whole.len() / 2]).unwrap();
    let (code, text) = export(&["--format", "jsonl"]);
    assert!(code == Some(2) && text.contains("--resume"), "{text}");
    let (code, text) = export(&["--resume", &id]);
    assert!(code == Some(0) && text.contains("40 events"), "{text}");
    assert!(fs::read(&out).unwrap() == whole && !part.exists());
    fs::remove_file(&out).unwrap();
    let mut other = whole[..whole.len() / 2].to_vec();
    other[7] ^= 1;
    fs::write(&part, other).unwrap();
    let (code, text) = export(&["--resume", &id]);
    assert!(code == Some(2) && text.contains("SHA-256") && !out.exists() && !part.exists(), "{text}");
    let (code, _) = export(&["--resume", &id]);
    assert!(code == Some(0) && fs::read(&out).unwrap() == whole);

    // Since then nothing but what the exports themselves are.
    fs::remove_file(&out).unwrap();
    let (code, text) = export(&["--format", "jsonl", "--action", "invoice.*", "--since", "last"]);
    assert!(code == Some(0) && text.contains(": 0 events"), "{text}");
    fs::remove_file(&out).unwrap();
    let (code, text) = export(&["--format", "evidence", "--action", "invoice.*", "--covering"]);
    assert_eq!(code, Some(0), "{text}");
    let (code, text) = process::said(&process::run(["verify", "bundle", path]));
    assert!(code == Some(0) && text.contains("PROVEN"), "{text}");
    fs::remove_file(&out).unwrap();
    let (code, text) = export(&["--format", "evidence", "--actor", "nobody"]);
    assert!(code == Some(1) && text.contains("not_found"), "{text}");
    let (code, text) = export(&["--format", "csv", "--outcome", "fail"]);
    assert!(code == Some(1) && text.contains("outcome"), "{text}");
    let (code, text) = export(&["--resume", "exp_00000000000000000000000000000000"]);
    assert!(code == Some(1) && text.contains("no such export"), "{text}");
    // It goes on after a kill: what was asked for is made at the next start.
    stele.kill();
    let stele = process::start(&folder.path().join("data"));
    let (code, text) = asked(&stele, &["export", "--tenant", "org_a", "--resume", &id, "--out", path]);
    assert!(code == Some(0) && fs::read(&out).unwrap() == whole, "{text}");
}
