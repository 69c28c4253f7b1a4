#[path = "../../../tests/src/vectors_jcs.rs"] mod vectors_jcs;
#[path = "../../../tests/src/vectors_json.rs"] mod vectors_json;
pub fn shared_data() -> Option<std::path::PathBuf> { Some("/work/shared/data".into()) }
#[test] fn saas() {
  use stele::event::*; use stele::{id::TenantId,time::Timestamp};
  let t = std::fs::read_to_string("/work/shared/data/saas-events.ndjson").unwrap();
  for (i,l) in t.lines().enumerate() {
    let d = Draft::parse(l.as_bytes()).unwrap_or_else(|e| panic!("{i}: {e}\n{l}"));
    let tenant = d.tenant().unwrap().clone();
    let terms = Terms{tenant:&tenant,key_id:"k1",now:Timestamp::from_ms(1777645920000),id_secret:&[7;32],random:i as u128,oldest:None};
    let a = d.accept(&terms).unwrap();
    if !a.warnings.is_empty() { println!("{i} {:?}", a.warnings); }
    if i == 0 { println!("{}", std::str::from_utf8(&a.record.leaf).unwrap()); }
    let r = stele::record::Record::from_leaf(a.record.leaf.bytes().clone()).unwrap();
    assert_eq!(r, a.record);
  }
  let _ = TenantId::parse("a");
}
