//! The contract of [`Refusals`].

use super::sample::tenant;
use stele::access::Tenant;
use stele::ports::Refusals;
use stele::refusal::{Refusal, RefusalFacts, RefusalId};
use stele::time::Timestamp;
use stele::{Code, Error};

/// A refusal of the n-th message.
pub fn sample(of: Option<&Tenant>, n: u64) -> Refusal {
    let error = Error::new(Code::EventConflict, "`evt_1` was accepted with other content");
    let now = Timestamp::from_ms(1_767_225_700_000);
    Refusal {
        id: RefusalId::new(Timestamp::from_ms(1_767_225_600_000 + n), &format!("m{n}")),
        tenant: of.map(|tenant| tenant.id().clone()),
        facts: RefusalFacts::new(&error, Some("evt_1".to_owned()), r#"{"a":"ü"}"#.to_owned(), now),
    }
}

/// All of it. `name` begins the tenants' names and must be new to the store.
pub async fn suite(store: &dyn Refusals, name: &str) {
    let (acme, globex) = (tenant(&format!("{name}.acme")), tenant(&format!("{name}.globex")));
    let all: Vec<Refusal> = (0..5).map(|n| sample(Some(&acme), n)).collect();
    for refusal in &all {
        store.refuse(refusal).await.expect("a write");
        store.refuse(refusal).await.expect("the same again");
    }
    store.refuse(&sample(Some(&globex), 9)).await.expect("a write");
    store.refuse(&sample(None, 10)).await.expect("a write");

    let latest_first: Vec<Refusal> = all.into_iter().rev().collect();
    assert_eq!(store.refusals(&acme, None, 100).await.expect("a listing"), latest_first);
    let page = store.refusals(&acme, None, 2).await.expect("a listing");
    assert_eq!(page, latest_first[..2]);
    let rest = store.refusals(&acme, Some(&page[1].id), 100).await.expect("a listing");
    assert_eq!(rest, latest_first[2..]);
    assert_eq!(store.refusals(&globex, None, 100).await.expect("a listing"), [sample(Some(&globex), 9)]);
    assert_eq!(store.unassigned_refusals(None, 100).await.expect("a listing"), [sample(None, 10)]);
    let before = sample(None, 10).id;
    assert_eq!(store.unassigned_refusals(Some(&before), 100).await.expect("a listing"), []);
}
