//! The contract of [`Policies`].

use super::sample::{legal_hold, tenant, tenant_record};
use futures_util::future::join_all;
use stele::id::TenantId;
use stele::ports::{Policies, Tenants};
use stele::retention::{Enforcement, LegalHold, PlatformRetention};
use stele::time::Timestamp;

/// All of it. `name` begins the tenants' names and must be new to the store; what was decided for new tenants must be
/// so too.
pub async fn suite<T: Policies + Tenants>(store: &T, name: &str) {
    what_new_tenants_get_is_as_decided_last(store).await;
    a_tenant_is_replaced_from_what_was_read(store, name).await;
    of_concurrent_replacements_one_wins(store, name).await;
    a_hold_is_placed_once_and_released_once(store, name).await;
    of_concurrent_releases_one_stands(store, name).await;
    holds_are_listed_by_id_and_apart(store, name).await;
    requests_count_and_passes_leave_them_alone(store, name).await;
    concurrent_requests_get_numbers_of_their_own(store, name).await;
}

/// The defaults before anybody decides.
pub async fn what_new_tenants_get_is_as_decided_last<T: Policies>(store: &T) {
    assert_eq!(store.platform_retention().await.expect("a read"), PlatformRetention::default());
    let longer = PlatformRetention { class_days: 2557, hot_days: 60 };
    for decided in [longer, PlatformRetention::default()] {
        store.set_platform_retention(&decided).await.expect("a decision");
        assert_eq!(store.platform_retention().await.expect("a read"), decided);
    }
}

/// Not from another state, not if there is none, not into another tenant.
pub async fn a_tenant_is_replaced_from_what_was_read<T: Policies + Tenants>(store: &T, name: &str) {
    let first = tenant_record(&format!("{name}.replaced"));
    let id = TenantId::parse(&first.tenant_id).expect("the sample is a tenant id");
    let mut second = first.clone();
    (second.class_days, second.hot_days, second.past_days) = (2557, 60, None);
    assert!(!store.replace_tenant(&first, &second).await.expect("an answer"), "there is none");
    assert_eq!(store.tenant(&id).await.expect("a read"), None);
    store.create_tenant(&first).await.expect("a creation");
    assert!(!store.replace_tenant(&second, &first).await.expect("an answer"), "it is not that");
    assert!(store.replace_tenant(&first, &first).await.expect("an answer"), "the same is a change too");
    assert!(store.replace_tenant(&first, &second).await.expect("an answer"));
    assert!(!store.replace_tenant(&first, &second).await.expect("an answer"), "it has moved on");
    let (mut other_id, mut other_origin) = (second.clone(), second.clone());
    other_id.tenant_id = format!("{name}.other");
    other_origin.origin = "log.example/fedcba9876543210".to_owned();
    for other in [other_id, other_origin] {
        assert!(store.replace_tenant(&second, &other).await.is_err(), "it would be another tenant");
    }
    assert_eq!(store.tenant(&id).await.expect("a read"), Some(second));
}

/// Eight at once.
pub async fn of_concurrent_replacements_one_wins<T: Policies + Tenants>(store: &T, name: &str) {
    let first = tenant_record(&format!("{name}.replaced.race"));
    let id = TenantId::parse(&first.tenant_id).expect("the sample is a tenant id");
    store.create_tenant(&first).await.expect("a creation");
    let records: Vec<_> = (0..8)
        .map(|n| {
            let mut record = first.clone();
            record.hot_days = 40 + n;
            record
        })
        .collect();
    let won = join_all(records.iter().map(|record| store.replace_tenant(&first, record))).await;
    let won: Vec<_> = won.into_iter().zip(records).filter(|(won, _)| *won.as_ref().expect("one")).collect();
    assert_eq!(won.len(), 1);
    assert_eq!(store.tenant(&id).await.expect("a read").as_ref(), Some(&won[0].1));
}

/// A repeated placing does not open it again; another under its id is refused.
pub async fn a_hold_is_placed_once_and_released_once<T: Policies>(store: &T, name: &str) {
    let tenant = tenant(&format!("{name}.hold"));
    let hold = legal_hold("hold_1");
    let [t1, t2] = [1, 2].map(|n| Timestamp::from_ms(hold.placed_ms + n));
    assert_eq!(store.holds(&tenant).await.expect("a listing"), []);
    assert_eq!(store.release_hold(&tenant, "hold_1", t1, "k2", 2).await.expect("an answer"), None);
    assert_eq!(store.release_hold(&tenant, "", t1, "k2", 2).await.expect("an answer"), None);
    for _ in 0..2 {
        store.place_hold(&tenant, &hold).await.expect("a hold");
        assert_eq!(store.holds(&tenant).await.expect("a listing"), std::slice::from_ref(&hold));
    }
    let other = LegalHold { reason: "another case".to_owned(), ..hold.clone() };
    assert!(store.place_hold(&tenant, &other).await.is_err());
    let released = LegalHold {
        enforcement: 2,
        released_ms: Some(t1.ms()),
        released_by: Some("k2".to_owned()),
        ..hold.clone()
    };
    for (now, by, enforcement) in [(t1, "k2", 2), (t2, "k3", 3)] {
        let answer = store.release_hold(&tenant, "hold_1", now, by, enforcement).await;
        assert_eq!(answer.expect("an answer").as_ref(), Some(&released));
    }
    store.place_hold(&tenant, &hold).await.expect("a repetition");
    assert_eq!(store.holds(&tenant).await.expect("a listing"), [released]);
}

/// Eight at once get the same answer.
pub async fn of_concurrent_releases_one_stands<T: Policies>(store: &T, name: &str) {
    let tenant = tenant(&format!("{name}.hold.race"));
    let hold = legal_hold("hold_1");
    store.place_hold(&tenant, &hold).await.expect("a hold");
    let by: Vec<String> = (0..8).map(|n| format!("k{n}")).collect();
    let release = |(n, by): (u64, &'_ String)| {
        let (store, tenant, by) = (&store, &tenant, by.clone());
        async move { store.release_hold(tenant, "hold_1", Timestamp::from_ms(n), &by, n).await }
    };
    let answers = join_all((1..).zip(&by).map(release)).await;
    let there = store.holds(&tenant).await.expect("a listing");
    assert!(there.len() == 1 && !there[0].is_open(), "{there:?}");
    for answer in answers {
        assert_eq!(answer.expect("an answer").as_ref(), Some(&there[0]));
    }
}

/// Of a tenant whose name begins alike nothing is listed.
pub async fn holds_are_listed_by_id_and_apart<T: Policies>(store: &T, name: &str) {
    let [one, other] = ["listed", "listed.b"].map(|n| tenant(&format!("{name}.{n}")));
    for id in ["hold_2", "hold_3", "hold_1"] {
        store.place_hold(&one, &legal_hold(id)).await.expect("a hold");
    }
    store.place_hold(&other, &legal_hold("hold_4")).await.expect("a hold");
    let ids = async |tenant| {
        let holds = store.holds(tenant).await.expect("a listing");
        holds.into_iter().map(|hold| hold.id).collect::<Vec<String>>()
    };
    assert_eq!(ids(&one).await, ["hold_1", "hold_2", "hold_3"]);
    assert_eq!(ids(&other).await, ["hold_4"]);
}

/// A pass that is saved does not undo a request made meanwhile, and one that was slow does not undo what is done.
pub async fn requests_count_and_passes_leave_them_alone<T: Policies>(store: &T, name: &str) {
    let tenant = tenant(&format!("{name}.enforced"));
    assert_eq!(store.enforcement(&tenant).await.expect("a read"), Enforcement::default());
    for n in 1..=3 {
        assert_eq!(store.request_enforcement(&tenant).await.expect("a request"), n);
    }
    let requested = Enforcement { requested: 3, ..Enforcement::default() };
    assert_eq!(store.enforcement(&tenant).await.expect("a read"), requested);
    let pass = Enforcement {
        requested: 1,
        started: 3,
        done: 2,
        next_leaf: 1 << 40,
        checked: 4,
        extended: 3,
        held: 2,
        released: 1,
    };
    store.save_enforcement(&tenant, &pass).await.expect("it is saved");
    let saved = Enforcement { requested: 3, ..pass };
    assert_eq!(store.enforcement(&tenant).await.expect("a read"), saved);
    let slow = Enforcement { requested: 9, done: 1, next_leaf: 5, checked: 9, ..pass };
    store.save_enforcement(&tenant, &slow).await.expect("it is saved");
    let saved = Enforcement { requested: 3, done: 2, ..slow };
    assert_eq!(store.enforcement(&tenant).await.expect("a read"), saved);
    assert_eq!(store.request_enforcement(&tenant).await.expect("a request"), 4);
    let done = Enforcement { started: 4, done: 4, ..Enforcement::default() };
    store.save_enforcement(&tenant, &done).await.expect("it is saved");
    let there = store.enforcement(&tenant).await.expect("a read");
    assert!(there == Enforcement { requested: 4, ..done } && !there.is_due(), "{there:?}");

    // One that is saved before any request, as after the loss of the table, leaves the count at its beginning.
    let lost = super::sample::tenant(&format!("{name}.enforced.b"));
    store.save_enforcement(&lost, &pass).await.expect("it is saved");
    let there = store.enforcement(&lost).await.expect("a read");
    assert_eq!(there, Enforcement { requested: 0, ..pass });
    assert_eq!(store.request_enforcement(&lost).await.expect("a request"), 1);
}

/// Sixteen at once.
pub async fn concurrent_requests_get_numbers_of_their_own<T: Policies>(store: &T, name: &str) {
    let tenant = tenant(&format!("{name}.requests"));
    let numbers = join_all((0..16).map(|_| store.request_enforcement(&tenant))).await;
    let mut numbers: Vec<u64> = numbers.into_iter().map(|n| n.expect("a request")).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=16).collect::<Vec<u64>>());
}
