//! Exports from the request to the file: every format over archive and segments, exactly what is sealed and once, whatever
//! fails on the way; and since the last one nothing twice and nothing missing.

use crate::archiving::{ask, at_last};
use crate::faults::{every_fault_of, numbered};
use crate::ocsf::Schema;
use crate::world::{GOVERNOR, HOUR_MS, SEED, Sending, World, at_once, event_with_id};
use bytes::Bytes;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use stele::export::{Export, ExportErrand};
use stele::limits;
use stele::ports::{Clock, ExportFiles, ExportLink, Exports, Inbox};
use stele::public_key::PublicKey;
use stele::time::DAY_MS;
use stele_export::Outcome;
use stele_verify::{Options, Terms, Verdict, verify_bundle};

const TENANT: &str = "org_acme";

/// Two tenants' events, in files of the archive and in segments behind them.
fn mixed() -> World {
    let world = World::new();
    at_once(world.publish_key());
    for (count, compacted) in [(3, false), (40, true), (7, false), (30, true), (5, false), (9, false)] {
        world.sealed(TENANT, count);
        world.sealed("org_other", 2);
        if compacted {
            at_once(world.compact(&world.compactor(), TENANT, true)).unwrap();
        }
        world.clock.advance_ms(DAY_MS / 2);
    }
    world
}

fn created(world: &World, body: &str) -> String {
    let made = ask(world, "POST", "/v1/exports", None, body);
    made["id"].as_str().unwrap().to_owned()
}

fn shown(world: &World, id: &str) -> Value {
    ask(world, "GET", &format!("/v1/exports/{id}?tenant_id={TENANT}"), None, "")
}

/// Runs the errands that wait.
async fn make(world: &World) -> Vec<Outcome> {
    let exporter = world.exporter();
    let mut outcomes = Vec::new();
    for message in world.to_export.receive(99).await.unwrap() {
        let errand = ExportErrand::parse(&message.body).unwrap();
        let until = world.clock.now().plus_ms(HOUR_MS);
        outcomes.push(exporter.handle(&errand, until).await.unwrap());
        world.to_export.delete(&message.receipt).await.unwrap();
    }
    outcomes
}

/// The bytes of a finished export's file, by its link, held against what is told of it.
fn file_of(world: &World, id: &str) -> Bytes {
    let export = shown(world, id);
    assert_eq!(export["state"], "done", "{export:#}");
    let url = export["file"]["url"].as_str().unwrap();
    let request = http::Request::get(url).header("authorization", format!("Bearer {GOVERNOR}"));
    let answer = at_once(world.query().handle(request.body(Bytes::new()).unwrap()));
    assert_eq!(answer.status(), 200);
    let bytes = answer.into_body();
    assert_eq!(export["file"]["bytes"], bytes.len());
    assert_eq!(export["file"]["sha256"], stele::tlog::hash::Hash::of(&bytes).to_string());
    bytes
}

fn exported(world: &World, body: &str) -> (Value, Bytes) {
    let id = created(world, body);
    at_once(make(world));
    (shown(world, &id), file_of(world, &id))
}

/// What lines of CSV hold, quoted or not.
fn cells(text: &str) -> Vec<Vec<String>> {
    let (mut rows, mut row, mut cell) = (Vec::new(), Vec::new(), String::new());
    let mut quoted = false;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match (quoted, c) {
            (true, '"') if chars.peek() == Some(&'"') => cell.push(chars.next().unwrap()),
            (_, '"') => quoted = !quoted,
            (false, ',') => row.push(std::mem::take(&mut cell)),
            (false, '\r') if chars.peek() == Some(&'\n') => {
                chars.next();
                row.push(std::mem::take(&mut cell));
                rows.push(std::mem::take(&mut row));
            }
            (_, c) => cell.push(c),
        }
    }
    assert!(!quoted && cell.is_empty() && row.is_empty(), "whole lines");
    rows
}

fn sealed_ids(world: &World) -> Vec<String> {
    at_once(world.take_whole_log(TENANT)).iter().map(|record| record.id.shown()).collect()
}

impl World {
    /// All records of a log, in leaf order, as its objects have them.
    async fn take_whole_log(&self, tenant: &str) -> Vec<stele::record::Record> {
        let tenant = self.tenant(tenant);
        let mut records = std::collections::BTreeMap::new();
        for file in self.archive_files(&tenant).await {
            let mut visit = |index: stele::tlog::hash::LeafIndex, record: &stele::record::Record| {
                records.insert(index.to_u64(), record.clone());
            };
            crate::world::verified(&file, tenant.id(), &mut visit).await.unwrap();
        }
        for (index, id) in crate::world::leaves_of(self, tenant.id().as_str()).await {
            if let std::collections::btree_map::Entry::Vacant(place) = records.entry(index.to_u64()) {
                let record = self.streamed().into_iter().find(|record| record.id == id).unwrap();
                place.insert(record);
            }
        }
        records.into_values().collect()
    }
}

#[test]
fn every_format_of_rows_holds_what_is_sealed_in_the_order_of_the_log() {
    let world = mixed();
    let schema = Schema::read();
    let sealed = sealed_ids(&world);
    assert_eq!(sealed.len(), 94);
    // Accepted after the last sealing: not in it.
    let event = event_with_id(TENANT, world.new_id());
    at_once(world.send(&world.ingest(), &Sending::one(event)));
    for format in ["csv", "jsonl", "ocsf", "parquet"] {
        let (export, bytes) = exported(&world, &format!(r#"{{"tenant_id":"{TENANT}","format":"{format}"}}"#));
        assert_eq!((&export["tree_size"], &export["file"]["end"]), (&Value::from(94), &Value::from(94)));
        assert_eq!(export["progress"]["done"], export["progress"]["leaves"]);
        assert_eq!(export["file"]["events"], 94, "{format}");
        if format == "parquet" {
            assert!(bytes.starts_with(b"PAR1") && bytes.ends_with(b"PAR1"));
            continue;
        }
        let text = std::str::from_utf8(&bytes).unwrap();
        let lines = || text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let (ids, indexes): (Vec<String>, Vec<u64>) = match format {
            "csv" => {
                let rows = cells(text);
                assert_eq!(rows[0], stele::query::CSV_COLUMNS);
                let row = |row: &Vec<String>| (row[0].clone(), row[19].parse::<u64>().unwrap());
                rows[1..].iter().map(row).unzip()
            }
            "jsonl" => {
                for event in lines() {
                    let state = event["integrity"]["state"].as_str().unwrap();
                    let index = event["integrity"]["leaf_index"].as_u64().unwrap();
                    assert_eq!(state, if index < 80 { "archived" } else { "sealed" });
                    let id = event["id"].as_str().unwrap();
                    let path = format!("/v1/events/{id}?tenant_id={TENANT}");
                    let mut there = ask(&world, "GET", &path, None, "");
                    there["integrity"]["tree_size"] = event["integrity"]["tree_size"].clone();
                    assert_eq!(event, there, "as it is read elsewhere");
                }
                let of = |event: Value| {
                    let index = event["integrity"]["leaf_index"].as_u64().unwrap();
                    (event["id"].as_str().unwrap().to_owned(), index)
                };
                lines().map(of).unzip()
            }
            _ => {
                for event in lines() {
                    let faults = schema.faults(&event);
                    assert!(faults.is_empty(), "{faults:#?}");
                }
                let of = |event: Value| {
                    let metadata = &event["metadata"];
                    (metadata["uid"].as_str().unwrap().to_owned(), metadata["sequence"].as_u64().unwrap())
                };
                lines().map(of).unzip()
            }
        };
        assert_eq!(ids, sealed, "{format}");
        assert_eq!(indexes, (0..94).collect::<Vec<u64>>(), "{format}");
    }
    let told: BTreeSet<String> = world.streamed().iter().map(|record| record.action.clone()).collect();
    assert!(told.contains("stele.export.created"));
    at_once(world.deliver(&world.sealer(), &world.streamed()));
    at_once(world.check());
}

#[test]
fn a_filter_and_a_beginning_are_kept_to() {
    let world = mixed();
    let all = at_once(world.take_whole_log(TENANT));
    let (from, to) = (all[20].occurred_at, all[60].occurred_at);
    let body = format!(
        r#"{{"tenant_id":"{TENANT}","format":"jsonl","since":30,"filter":{{"from":"{from}","to":"{to}","actor_id":["user_1","nobody"]}}}}"#
    );
    let (export, bytes) = exported(&world, &body);
    let wanted: Vec<String> = all
        .iter()
        .skip(30)
        .filter(|record| (from..to).contains(&record.occurred_at))
        .map(|record| record.id.shown())
        .collect();
    assert!(!wanted.is_empty());
    let ids = std::str::from_utf8(&bytes).unwrap().lines().map(|line| {
        let event: Value = serde_json::from_str(line).unwrap();
        event["id"].as_str().unwrap().to_owned()
    });
    assert_eq!(ids.collect::<Vec<_>>(), wanted);
    assert_eq!((&export["first"], &export["file"]["first"]), (&Value::from(30), &Value::from(30)));
    for body in [
        format!(r#"{{"tenant_id":"{TENANT}","format":"csv","filter":{{"actor_id":"nobody"}}}}"#),
        format!(r#"{{"tenant_id":"{TENANT}","format":"csv","filter":{{"to":"1970-01-01"}}}}"#),
        format!(r#"{{"tenant_id":"{TENANT}","format":"csv","since":94}}"#),
    ] {
        let (export, bytes) = exported(&world, &body);
        assert_eq!(export["file"]["events"], 0);
        assert_eq!(cells(std::str::from_utf8(&bytes).unwrap()).len(), 1, "the header alone");
    }
}

#[test]
fn since_the_last_export_nothing_is_twice_and_nothing_missing() {
    let world = World::new();
    at_once(world.publish_key());
    let mut seen: Vec<u64> = Vec::new();
    for round in 0..6_u64 {
        world.sealed(TENANT, 3 + round);
        if round % 2 == 0 {
            at_once(world.compact(&world.compactor(), TENANT, true)).unwrap();
        }
        let body = format!(r#"{{"tenant_id":"{TENANT}","format":"jsonl","since":"last"}}"#);
        let id = created(&world, &body);
        // What is sealed between asking and making belongs to the next one.
        world.sealed(TENANT, 2);
        at_once(make(&world));
        let bytes = file_of(&world, &id);
        seen.extend(std::str::from_utf8(&bytes).unwrap().lines().map(|line| {
            let event: Value = serde_json::from_str(line).unwrap();
            event["integrity"]["leaf_index"].as_u64().unwrap()
        }));
        world.clock.advance_ms(HOUR_MS);
    }
    let last = shown(
        &world,
        ask(&world, "GET", &format!("/v1/exports?tenant_id={TENANT}"), None, "")["exports"][0]["id"]
            .as_str()
            .unwrap(),
    );
    assert_eq!(seen, (0..last["file"]["end"].as_u64().unwrap()).collect::<Vec<u64>>());
}

#[test]
fn evidence_is_proven_for_a_range_a_filter_and_all_of_it_and_ends_where_what_is_signed_ends() {
    let world = mixed();
    // A bundle says how far it is by the clock.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let options = Options {
        pinned: vec![PublicKey::of_seed(&SEED)],
        terms: Terms { now: Some(world.clock.now()), ..Terms::default() },
        ..Options::default()
    };
    let later =
        format!(r#","filter":{{"actor_id":"user_1","from":"{}"}}"#, world.clock.now().minus_ms(DAY_MS));
    for (more, completeness) in [
        ("", Verdict::Proven),
        (r#","since":50"#, Verdict::Proven),
        (&later, Verdict::CouldNotCheck),
        (r#","filter":{"actor_id":"user_1"},"covering":true,"since":20"#, Verdict::Proven),
    ] {
        let body = format!(r#"{{"tenant_id":"{TENANT}","format":"evidence"{more}}}"#);
        let id = created(&world, &body);
        let outcomes = runtime.block_on(make(&world));
        assert!(matches!(outcomes[..], [Outcome::Done(_)]), "{more}: {outcomes:?} {:#}", shown(&world, &id));
        let path = folder.path().join("evidence.zip");
        fs::write(&path, file_of(&world, &id)).unwrap();
        let report = verify_bundle(&path, &options, &mut |_, _| {}).unwrap().report;
        let log = &report.logs[0];
        assert!(log.findings.is_empty(), "{more}: {log:#?}");
        assert_eq!((log.integrity, log.completeness), (Verdict::Proven, completeness), "{more}: {log:#?}");
        let export = shown(&world, &id);
        let number = |value: &Value| value.as_u64().unwrap();
        assert_eq!(log.leaves_proven, number(&export["file"]["events"]), "{more}");
        let leaves = number(&export["file"]["end"]) - number(&export["first"]);
        assert_eq!(
            log.leaves_proven == leaves,
            completeness == Verdict::Proven,
            "all events are of one actor"
        );
    }
    // Of nothing there is no evidence, and the export says so.
    let body = format!(r#"{{"tenant_id":"{TENANT}","format":"evidence","filter":{{"actor_id":"nobody"}}}}"#);
    let id = created(&world, &body);
    runtime.block_on(make(&world));
    let export = shown(&world, &id);
    assert_eq!((&export["state"], &export["error"]["code"]), (&"failed".into(), &"not_found".into()));
    assert_eq!(fs::read_dir(world.spool.path()).unwrap().count(), 0, "nothing is left behind");
}

/// Asked for and made, whatever fails; ends in one file that holds what it must.
fn story(plan: &dyn Fn(&World)) -> World {
    let mut world = World::new();
    world.paced = true;
    for (count, compacted) in [(20, true), (4, false), (3, false)] {
        world.sealed(TENANT, count);
        if compacted {
            at_once(world.compact(&world.compactor(), TENANT, true)).unwrap();
        }
    }
    world.faults.take_log();
    plan(&world);
    let body = format!(r#"{{"tenant_id":"{TENANT}","format":"csv"}}"#);
    let made = ask(&world, "POST", "/v1/exports", Some("daily"), &body);
    let id = made["id"].as_str().unwrap().to_owned();
    for _ in 0..crate::faults::TRIES_MAX {
        // Every delivery twice; one that is not answered leaves a claim that has to end.
        for message in at_once(world.to_export.receive(99)).unwrap() {
            let errand = ExportErrand::parse(&message.body).unwrap();
            for _ in 0..2 {
                let outcome = at_last(|| {
                    let (world, errand) = (&world, &errand);
                    async move {
                        world.clock.advance_ms(limits::EXPORT_LEASE_MS);
                        world.exporter().handle(errand, world.clock.now().plus_ms(HOUR_MS)).await
                    }
                });
                assert!(!matches!(outcome, Outcome::Failed), "{:#}", shown(&world, &id));
            }
        }
        let export = ask(&world, "GET", &format!("/v1/exports/{id}?tenant_id={TENANT}"), None, "");
        if export["state"] == "done" {
            break;
        }
    }
    world.faults.clear();
    world.paced = false;
    let text = file_of(&world, &id);
    let indexes: Vec<String> =
        cells(std::str::from_utf8(&text).unwrap()).iter().map(|row| row[19].clone()).collect();
    let expected = std::iter::once("leaf_index".to_owned()).chain((0..27).map(|n| n.to_string()));
    assert_eq!(indexes, expected.collect::<Vec<String>>());
    assert_eq!(world.files.keys().len(), 1, "one file");
    let tenant = world.tenant(TENANT);
    assert_eq!(at_once(world.store.exports(&tenant, None, 9)).unwrap().len(), 1, "one export");
    at_once(world.seal_stream(&world.sealer()));
    let told = world.streamed().iter().filter(|record| record.action == "stele.export.created").count();
    assert_eq!(told, 1, "told once");
    assert_eq!(fs::read_dir(world.spool.path()).unwrap().count(), 0, "nothing is left behind");
    at_once(world.check());
    world
}

#[test]
fn every_call_of_an_export_may_fail_in_every_way() {
    let world = story(&|_| {});
    let calls = numbered(&world.faults.take_log());
    let names: BTreeSet<&str> = calls.iter().map(|(call, _)| *call).collect();
    for name in [
        "exports.create_export",
        "exports.export",
        "exports.replace_export",
        "export_files.exported",
        "export_files.put_export",
        "outbox.send",
        "hot.put",
        "objects.range",
        "objects.version",
    ] {
        assert!(names.contains(name), "{name} is not among {names:?}");
    }
    let of_exports = |call: &&(&'static str, u64)| {
        ["exports.", "export_files.", "outbox.", "objects.", "heads.", "archive_index."]
            .iter()
            .any(|begin| call.0.starts_with(begin))
    };
    let calls: Vec<_> = calls.iter().filter(of_exports).copied().collect();
    every_fault_of(&calls, |plan| {
        story(plan);
    });
}

#[test]
fn two_workers_at_once_make_one_file() {
    let mut world = World::new();
    world.sealed(TENANT, 9);
    let id = created(&world, &format!(r#"{{"tenant_id":"{TENANT}","format":"jsonl"}}"#));
    world.paced = true;
    let errand = ExportErrand { tenant: world.tenant(TENANT).id().clone(), export: id.clone() };
    let (one, other) = (world.exporter(), world.exporter());
    let until = world.clock.now().plus_ms(HOUR_MS);
    let both = async { tokio::join!(one.handle(&errand, until), other.handle(&errand, until)) };
    let (one, other) = at_once(both);
    let outcomes = [one.unwrap(), other.unwrap()];
    assert!(outcomes.iter().any(|outcome| matches!(outcome, Outcome::Done(_))), "{outcomes:?}");
    assert!(outcomes.iter().any(|outcome| matches!(outcome, Outcome::Busy | Outcome::Over)), "{outcomes:?}");
    assert_eq!(world.files.keys().len(), 1);
    assert_eq!(file_of(&world, &id).iter().filter(|byte| **byte == b'\n').count(), 9);
}

#[test]
fn a_worker_whose_claim_another_has_stops_and_one_that_finds_a_file_takes_it() {
    let world = World::new();
    world.sealed(TENANT, 9);
    let id = created(&world, &format!(r#"{{"tenant_id":"{TENANT}","format":"jsonl"}}"#));
    let tenant = world.tenant(TENANT);
    let there = || at_once(world.store.export(&tenant, &id)).unwrap().unwrap();
    at_once(make(&world));
    let done: Export = there();
    // As a crash between the put and the record would leave it, with what the first run counted.
    let crashed = Export {
        state: stele::export::State::Running,
        file: None,
        finished_ms: None,
        revision: done.revision + 1,
        ..done.clone()
    };
    assert!(at_once(world.store.replace_export(&tenant, done.revision, &crashed)).unwrap());
    world.clock.advance_ms(limits::EXPORT_LEASE_MS);
    world.sealed(TENANT, 3);
    let errand = ExportErrand { tenant: tenant.id().clone(), export: id.clone() };
    let until = world.clock.now().plus_ms(HOUR_MS);
    world.faults.take_log();
    let outcome = at_once(world.exporter().handle(&errand, until)).unwrap();
    assert_eq!(outcome, Outcome::Done(done.file.clone().unwrap()));
    let calls = world.faults.take_log();
    assert!(calls.iter().all(|(call, _)| !call.starts_with("objects.")), "nothing is read again: {calls:?}");
    let link = at_once(world.files.link(&done.key(tenant.id()), "x", "y")).unwrap();
    assert!(matches!(link, Some(ExportLink::Bytes(_))));
}

#[test]
fn an_export_that_takes_longer_than_a_run_says_how_to_ask_for_less() {
    let world = World::new();
    world.sealed(TENANT, 9);
    let id = created(&world, &format!(r#"{{"tenant_id":"{TENANT}","format":"jsonl"}}"#));
    let errand = ExportErrand { tenant: world.tenant(TENANT).id().clone(), export: id.clone() };
    let outcome = at_once(world.exporter().handle(&errand, world.clock.now())).unwrap();
    assert_eq!(outcome, Outcome::Failed);
    let export = shown(&world, &id);
    assert_eq!(export["error"]["code"], "export_too_large");
    let detail = export["error"]["detail"].as_str().unwrap();
    assert!(detail.contains("`since`") && detail.contains("leaf 9 of 9"), "{detail}");
    assert!(world.files.keys().is_empty());
}

/// Expired leaves are counted, and the rest is exported.
#[test]
fn what_has_expired_is_counted_and_the_rest_is_there() {
    let world = World::new();
    at_once(world.publish_key());
    world.sealed(TENANT, 12);
    at_once(world.compact(&world.compactor(), TENANT, true)).unwrap();
    world.clock.advance_ms(330 * DAY_MS);
    world.sealed(TENANT, 5);
    at_once(world.compact(&world.compactor(), TENANT, true)).unwrap();
    world.clock.advance_ms(40 * DAY_MS);
    at_once(world.objects.expire(world.clock.now()));
    world.sealed(TENANT, 4);
    let (export, bytes) = exported(&world, &format!(r#"{{"tenant_id":"{TENANT}","format":"jsonl"}}"#));
    assert_eq!((&export["file"]["expired"], &export["file"]["events"]), (&Value::from(12), &Value::from(9)));
    assert_eq!(bytes.iter().filter(|byte| **byte == b'\n').count(), 9);
}

/// Texts that a spreadsheet would run, in every column that takes a text.
#[test]
fn no_cell_of_a_csv_file_begins_with_what_a_spreadsheet_would_run() {
    let world = World::new();
    let ingest = world.ingest();
    let bad = ["=1+1", "+1", "-1", "@SUM(A1)", "\\t=1", "\\r=1", "\\n=1", "=cmd|' /C calc'!A0"];
    for text in bad {
        let event = format!(
            r#"{{"tenant_id":"{TENANT}","action":"invoice.deleted","actor":{{"id":"{id}","name":"{text}","email":"{text}"}},"resource":{{"type":"{id}","id":"{id}","name":"{text}"}},"description":"{text}","reason":"{text}","context":{{"user_agent":"{text}"}},"metadata":{{"{id}":"{text}"}}}}"#,
            id = text.replace('\\', ""),
        );
        let answers = at_once(world.send(&ingest, &Sending::one(event)));
        assert_eq!(answers[0].status, 201, "{text}");
    }
    at_once(world.seal_stream(&world.sealer()));
    let (export, bytes) = exported(&world, &format!(r#"{{"tenant_id":"{TENANT}","format":"csv"}}"#));
    assert_eq!(export["file"]["events"], bad.len());
    let rows = cells(std::str::from_utf8(&bytes).unwrap());
    assert_eq!(rows.len(), bad.len() + 1);
    for cell in rows.iter().flatten() {
        assert!(!cell.starts_with(['=', '+', '-', '@', '\t', '\r', '\n']), "{cell:?}");
    }
    for text in ["'=1+1", "'@SUM(A1)", "'=cmd|' /C calc'!A0"] {
        assert!(rows.iter().flatten().any(|cell| cell == text), "{text} is kept, as a text");
    }
    if std::env::var_os("STELE_LONG").is_some() {
        opened_in_libreoffice(&bytes, &rows);
    }
}

/// LibreOffice reads the same cells, and none of them is a formula.
fn opened_in_libreoffice(bytes: &[u8], rows: &[Vec<String>]) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events.csv");
    fs::write(&path, bytes).unwrap();
    let office = ["soffice", "libreoffice"].into_iter().find(|name| {
        std::process::Command::new(name).arg("--version").output().is_ok_and(|output| output.status.success())
    });
    let Some(office) = office else {
        eprintln!("NOT CHECKED: LibreOffice is not installed, so no spreadsheet has opened the CSV");
        return;
    };
    let profile = format!("-env:UserInstallation=file://{}", folder.path().join("profile").display());
    // As flat XML: each cell says whether it is a formula.
    let output = std::process::Command::new(office)
        .args(["--headless", &profile, "--infilter=CSV:44,34,76,1", "--convert-to", "fods", "--outdir"])
        .arg(folder.path())
        .arg(&path)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let opened = fs::read_to_string(Path::new(folder.path()).join("events.fods")).unwrap();
    assert!(opened.contains("invoice.deleted") && !opened.contains("table:formula"), "a cell is a formula");
    assert!(opened.matches("invoice.deleted").count() >= rows.len() - 1);
}
