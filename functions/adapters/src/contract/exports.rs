//! The contract of [`Exports`].

use super::sample::{export, tenant};
use futures_util::future::join_all;
use stele::export::{Claiming, Export};
use stele::limits;
use stele::ports::Exports;
use stele::time::Timestamp;

/// All of it. `name` begins the tenants' names and must be new to the store.
pub async fn suite<T: Exports>(store: &T, name: &str) {
    an_export_is_created_once(store, name).await;
    a_name_stands_for_its_first_export_for_a_day(store, name).await;
    of_concurrent_creations_under_a_name_one_stands(store, name).await;
    exports_are_listed_latest_first_and_apart(store, name).await;
    of_concurrent_claims_one_wins(store, name).await;
}

/// A repetition changes nothing.
pub async fn an_export_is_created_once<T: Exports>(store: &T, name: &str) {
    let tenant = tenant(&format!("{name}.export"));
    let first = export(1);
    for id in [first.id.as_str(), "", "exp_0"] {
        assert_eq!(store.export(&tenant, id).await.expect("a read"), None);
    }
    assert!(!store.replace_export(&tenant, 0, &first).await.expect("an answer"), "there is none");
    assert_eq!(store.create_export(&tenant, &first, None).await.expect("a creation"), first);
    let other = Export { created_by: "k2".to_owned(), ..first.clone() };
    assert_eq!(store.create_export(&tenant, &other, None).await.expect("a repetition"), first);
    assert_eq!(store.export(&tenant, &first.id).await.expect("a read").as_ref(), Some(&first));
    let second = first.sent(Timestamp::from_ms(9));
    assert!(!store.replace_export(&tenant, 1, &second).await.expect("an answer"), "it is not that");
    assert!(store.replace_export(&tenant, 0, &second).await.expect("an answer"));
    assert!(!store.replace_export(&tenant, 0, &second).await.expect("an answer"), "it has moved on");
    assert_eq!(store.create_export(&tenant, &first, None).await.expect("a repetition"), second);
}

/// Afterwards for another.
pub async fn a_name_stands_for_its_first_export_for_a_day<T: Exports>(store: &T, name: &str) {
    let tenant = tenant(&format!("{name}.named"));
    let first = export(1);
    let later = |ms: u64, n| Export { created_ms: first.created_ms + ms, ..export(n) };
    let create = async |export: &Export, name| store.create_export(&tenant, export, Some(name)).await;
    assert_eq!(create(&first, "a").await.expect("a creation"), first);
    assert_eq!(create(&later(limits::REMEMBERED_MS - 1, 2), "a").await.expect("a repetition"), first);
    assert_eq!(store.export(&tenant, &export(2).id).await.expect("a read"), None, "nothing was stored");
    let other = later(5, 3);
    assert_eq!(create(&other, "b").await.expect("another name"), other);
    let next = later(limits::REMEMBERED_MS, 4);
    assert_eq!(create(&next, "a").await.expect("a day later"), next);
    assert_eq!(create(&later(limits::REMEMBERED_MS + 9, 5), "a").await.expect("a repetition"), next);
}

/// Eight at once get the same one.
pub async fn of_concurrent_creations_under_a_name_one_stands<T: Exports>(store: &T, name: &str) {
    let tenant = tenant(&format!("{name}.named.race"));
    let exports: Vec<Export> = (0..8).map(export).collect();
    let created = exports.iter().map(|export| store.create_export(&tenant, export, Some("a")));
    let created: Vec<Export> =
        join_all(created).await.into_iter().map(|created| created.expect("one")).collect();
    assert!(created.iter().all(|one| one.id == created[0].id), "{created:?}");
    assert_eq!(store.exports(&tenant, None, 9).await.expect("a listing").len(), 1);
}

/// Of a tenant whose name begins alike nothing is listed.
pub async fn exports_are_listed_latest_first_and_apart<T: Exports>(store: &T, name: &str) {
    let [one, other] = ["listed", "listed.b"].map(|n| tenant(&format!("{name}.{n}")));
    for n in [2, 1, 3] {
        store.create_export(&one, &export(n), None).await.expect("a creation");
    }
    store.create_export(&other, &export(4), None).await.expect("a creation");
    let ids = async |tenant, before: Option<&str>, limit| {
        let exports = store.exports(tenant, before, limit).await.expect("a listing");
        exports.into_iter().map(|export| export.id).collect::<Vec<String>>()
    };
    let [first, second, third] = [1, 2, 3].map(|n| export(n).id);
    assert_eq!(ids(&one, None, 9).await, [third.clone(), second.clone(), first.clone()]);
    assert_eq!(ids(&one, None, 2).await, [third, second.clone()]);
    assert_eq!(ids(&one, Some(&second), 9).await, std::slice::from_ref(&first));
    assert_eq!(ids(&one, Some(&first), 9).await, Vec::<String>::new());
    assert_eq!(store.export(&other, &first).await.expect("a read"), None, "it is another's");
}

/// Eight workers at once.
pub async fn of_concurrent_claims_one_wins<T: Exports>(store: &T, name: &str) {
    let tenant = tenant(&format!("{name}.claimed"));
    let export = export(1);
    store.create_export(&tenant, &export, None).await.expect("a creation");
    let claims: Vec<Export> = (0..8)
        .map(|n| match export.claim(&format!("w{n}"), Timestamp::from_ms(export.created_ms)) {
            Claiming::Claimed(claimed) => *claimed,
            other => panic!("{other:?}"),
        })
        .collect();
    let won = join_all(claims.iter().map(|claim| store.replace_export(&tenant, 0, claim))).await;
    let won: Vec<_> = won.into_iter().zip(claims).filter(|(won, _)| *won.as_ref().expect("one")).collect();
    assert_eq!(won.len(), 1);
    assert_eq!(store.export(&tenant, &export.id).await.expect("a read").as_ref(), Some(&won[0].1));
}
