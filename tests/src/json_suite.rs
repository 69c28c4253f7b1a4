//! JSONTestSuite over HTTP: every text as the body of an event and as a value within one. No text is answered
//! with a fault of ours, and what is stored equals what was sent.

use crate::http::{ROOT, shared};
use crate::vectors_json::OVERRIDDEN;
use std::fs;
use stele::canonical::canonicalize;
use stele::json::Json;

const TENANT: &str = "json_suite";

#[test]
fn every_text_of_the_suite_gets_its_status_and_is_stored_as_sent() {
    let folder = crate::shared_data().expect("shared/data is absent: JSONTestSuite can't be run");
    let mut paths: Vec<_> =
        fs::read_dir(folder.join("json-test-suite")).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|e| e == "json"));
    paths.sort();
    assert!(paths.len() >= 318, "only {} texts", paths.len());
    let (mut wrong, mut stored) = (Vec::new(), 0);
    for path in paths {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let text = fs::read(&path).unwrap();
        let body = shared().post(ROOT, "/v1/events", &text).status;
        if !as_body(&name, body) {
            wrong.push(format!("{name} as a body: {body}"));
        }
        match as_value(&text) {
            Ok(kept) => {
                stored += 1;
                if !may_be_kept(&name) || !kept {
                    wrong.push(format!("{name} as a value: accepted, kept as sent: {kept}"));
                }
            }
            Err(status) => {
                if !matches!(status, 400 | 413 | 422) || must_be_kept(&name) {
                    wrong.push(format!("{name} as a value: {status}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(stored >= 80, "only {stored} texts were stored");
}

fn is_overridden(name: &str) -> bool {
    OVERRIDDEN.iter().any(|(text, _)| *text == name)
}

/// No text of the suite is an event: it is not JSON (400), an event's body is larger (413), or it breaks rules.
fn as_body(name: &str, status: u16) -> bool {
    match name.as_bytes()[0] {
        b'y' if !is_overridden(name) => status == 422,
        b'n' => matches!(status, 400 | 413),
        _ => matches!(status, 400 | 422),
    }
}

/// Depth is a rule of ours: within an event a text stands two levels deeper.
fn must_be_kept(name: &str) -> bool {
    name.starts_with("y_") && !is_overridden(name)
}

/// Of a text that is not JSON some are, once they stand within another: a text with more behind its end can end
/// the member and go on.
fn may_be_kept(name: &str) -> bool {
    !name.starts_with("n_") && !is_overridden(name)
}

/// Sends the text as `metadata.x`: whether it was stored as sent, or the status it was refused with.
fn as_value(text: &[u8]) -> Result<bool, u16> {
    let mut event =
        format!(r#"{{"tenant_id":"{TENANT}","actor":{{"id":"u"}},"action":"suite.sent","metadata":{{"x":"#)
            .into_bytes();
    event.extend_from_slice(text);
    event.extend_from_slice(b"}}");
    let sent = shared().post(ROOT, "/v1/events", &event);
    if sent.status != 201 {
        return Err(sent.status);
    }
    let id = sent.json()["id"].as_str().unwrap().to_owned();
    let got = shared().get(ROOT, &format!("/v1/events/{id}?tenant_id={TENANT}")).expect(200);
    let json = Json::parse(&got.body).unwrap();
    let metadata = json.member(json.root(), "metadata").expect("metadata is kept");
    let value = json.member(metadata, "x").expect("the member is kept");
    // Both sides by their canonical form; what is stored is in it already.
    let canonical = canonicalize(text).expect("what was accepted is JSON");
    Ok(json.raw(value).as_bytes() == canonical
        && canonicalize(json.raw(value).as_bytes()).unwrap() == canonical)
}
