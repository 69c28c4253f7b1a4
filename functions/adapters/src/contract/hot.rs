//! The contract of [`HotStore`].

use super::sample::{record, record_by, sharded_tenant, tenant};
use futures_util::future::join_all;
use stele::access::Tenant;
use stele::id::EventId;
use stele::ports::{HotIndex, HotStore, IdRange, Order, Put, PutOutcome, Remember};
use stele::record::Record;
use stele::time::{DAY_MS, Day, Timestamp};

/// 2026-01-01.
const START_MS: u64 = 1_767_225_600_000;

/// All of it. `name` begins the tenants' names and must be new to the store.
pub async fn suite(store: &dyn HotStore, name: &str) {
    an_id_is_stored_once(store, name).await;
    of_concurrent_puts_one_stores(store, name).await;
    a_name_is_remembered_until_its_end(store, name).await;
    of_concurrent_puts_under_one_name_one_stores(store, name).await;
    a_day_is_listed_in_both_orders(store, name).await;
    a_long_day_is_listed_whole(store, name).await;
    shards_are_merged(store, name).await;
    indexes_find_whole_keys_only(store, name).await;
    tenants_do_not_see_each_other(store, name).await;
    late_days_are_noted_once(store, name).await;
}

fn alone(record: &Record) -> Put {
    Put { record: record.clone(), expires: Timestamp::MAX, remember: None }
}

fn remembered(record: &Record, name: &str, now: Timestamp, until: Timestamp) -> Put {
    Put { remember: Some(Remember { name: name.to_owned(), now, until }), ..alone(record) }
}

async fn put(store: &dyn HotStore, tenant: &Tenant, put: &Put) -> PutOutcome {
    store.put(tenant, put).await.expect("a put")
}

async fn stored(store: &dyn HotStore, tenant: &Tenant, record: &Record) {
    let outcome = put(store, tenant, &alone(record)).await;
    assert!(matches!(outcome, PutOutcome::Stored), "{outcome:?}");
}

fn whole(day: Day) -> IdRange {
    let last = EventId::last_at(day.next().start().minus_ms(1));
    IdRange { first: EventId::first_at(day.start()), last }
}

fn ids(records: &[Record]) -> Vec<EventId> {
    records.iter().map(|r| r.id).collect()
}

/// First and later puts of an id, equal or not: the first stays.
pub async fn an_id_is_stored_once(store: &dyn HotStore, name: &str) {
    let tenant = tenant(&format!("{name}.once"));
    let first = record(&tenant, START_MS, 1);
    let other = record_by(&tenant, START_MS, 1, "user_2", None, "invoice.created");
    assert_eq!(first.id, other.id);
    assert!(store.record(&tenant, first.id).await.expect("a read").is_none());
    stored(store, &tenant, &first).await;
    for again in [&first, &other] {
        match put(store, &tenant, &alone(again)).await {
            PutOutcome::Exists(there) => assert_eq!(there, first),
            outcome => panic!("{outcome:?}"),
        }
    }
    assert_eq!(store.record(&tenant, first.id).await.expect("a read"), Some(first));
}

/// Sixteen writers of one id, each with content of its own.
pub async fn of_concurrent_puts_one_stores(store: &dyn HotStore, name: &str) {
    let tenant = tenant(&format!("{name}.race"));
    let records: Vec<Record> = (0..16)
        .map(|n| record_by(&tenant, START_MS, 1, &format!("user_{n}"), None, "invoice.deleted"))
        .collect();
    let puts: Vec<Put> = records.iter().map(alone).collect();
    let outcomes = join_all(puts.iter().map(|p| store.put(&tenant, p))).await;
    let outcomes: Vec<PutOutcome> = outcomes.into_iter().map(|o| o.expect("a put")).collect();
    let won: Vec<usize> = (0..16).filter(|n| matches!(outcomes[*n], PutOutcome::Stored)).collect();
    assert_eq!(won.len(), 1, "{outcomes:?}");
    let winner = &records[won[0]];
    for outcome in &outcomes {
        if let PutOutcome::Exists(there) = outcome {
            assert_eq!(there, winner);
        }
    }
    assert_eq!(store.record(&tenant, winner.id).await.expect("a read").as_ref(), Some(winner));
}

/// A name stands for the first id until its end, is free afterwards, and is nobody else's business.
pub async fn a_name_is_remembered_until_its_end(store: &dyn HotStore, name: &str) {
    let tenant = tenant(&format!("{name}.names"));
    let now = Timestamp::from_ms(START_MS);
    let until = now.plus_ms(DAY_MS);
    let [a, b, c, d] = [1, 2, 3, 4].map(|n| record(&tenant, START_MS + n, u128::from(n)));
    let outcome = put(store, &tenant, &remembered(&a, "retry", now, until)).await;
    assert!(matches!(outcome, PutOutcome::Stored), "{outcome:?}");
    // Its own repetition, as after a lost answer.
    match put(store, &tenant, &remembered(&a, "retry", now, until)).await {
        PutOutcome::Exists(there) => assert_eq!(there, a),
        outcome => panic!("{outcome:?}"),
    }
    // Another id under the name, still in time; nothing is changed.
    let late = until.minus_ms(1);
    match put(store, &tenant, &remembered(&b, "retry", late, late.plus_ms(DAY_MS))).await {
        PutOutcome::Remembered(there) => assert_eq!(there, a),
        outcome => panic!("{outcome:?}"),
    }
    assert!(store.record(&tenant, b.id).await.expect("a read").is_none());
    // At its end it is free, and stands for the new id.
    let outcome = put(store, &tenant, &remembered(&b, "retry", until, until.plus_ms(DAY_MS))).await;
    assert!(matches!(outcome, PutOutcome::Stored), "{outcome:?}");
    match put(store, &tenant, &remembered(&c, "retry", until, until.plus_ms(DAY_MS))).await {
        PutOutcome::Remembered(there) => assert_eq!(there, b),
        outcome => panic!("{outcome:?}"),
    }
    // An id that is there wins over a name that stands for another.
    match put(store, &tenant, &remembered(&a, "retry", until, until.plus_ms(DAY_MS))).await {
        PutOutcome::Exists(there) => assert_eq!(there, a),
        outcome => panic!("{outcome:?}"),
    }
    // Another name, and the same name of another tenant.
    let outcome = put(store, &tenant, &remembered(&d, "retry 2", now, until)).await;
    assert!(matches!(outcome, PutOutcome::Stored), "{outcome:?}");
    let other = super::sample::tenant(&format!("{name}.names2"));
    let outcome = put(store, &other, &remembered(&record(&other, START_MS, 1), "retry", now, until)).await;
    assert!(matches!(outcome, PutOutcome::Stored), "{outcome:?}");
}

/// Eight writers of eight ids under one name.
pub async fn of_concurrent_puts_under_one_name_one_stores(store: &dyn HotStore, name: &str) {
    let tenant = tenant(&format!("{name}.namerace"));
    let now = Timestamp::from_ms(START_MS);
    let puts: Vec<Put> = (0..8_u64)
        .map(|n| record(&tenant, START_MS + n, u128::from(n)))
        .map(|record| remembered(&record, "one", now, now.plus_ms(DAY_MS)))
        .collect();
    let outcomes = join_all(puts.iter().map(|p| store.put(&tenant, p))).await;
    let outcomes: Vec<PutOutcome> = outcomes.into_iter().map(|o| o.expect("a put")).collect();
    let stored = store.day(&tenant, now.day(), whole(now.day()), Order::Ascending, 10).await.expect("a day");
    assert_eq!(stored.len(), 1, "{outcomes:?}");
    for outcome in &outcomes {
        match outcome {
            PutOutcome::Stored => {}
            PutOutcome::Remembered(there) => assert_eq!(*there, stored[0]),
            PutOutcome::Exists(_) => panic!("{outcomes:?}"),
        }
    }
    assert_eq!(outcomes.iter().filter(|o| matches!(o, PutOutcome::Stored)).count(), 1);
}

/// Orders, bounds and limits of a day.
pub async fn a_day_is_listed_in_both_orders(store: &dyn HotStore, name: &str) {
    let tenant = tenant(&format!("{name}.day"));
    let day = Timestamp::from_ms(START_MS).day();
    // The last millisecond of the day before and the first of the day after are not of this day.
    let mut records: Vec<Record> = [3, 1, 2, DAY_MS - 1].map(|n| record(&tenant, START_MS + n, 9)).into();
    for outside in [START_MS - 1, START_MS + DAY_MS] {
        stored(store, &tenant, &record(&tenant, outside, 9)).await;
    }
    for record in &records {
        stored(store, &tenant, record).await;
    }
    records.sort_by_key(|r| r.id);
    let list = async |range, order, limit| store.day(&tenant, day, range, order, limit).await.expect("a day");
    assert_eq!(list(whole(day), Order::Ascending, 50).await, records);
    assert_eq!(ids(&list(whole(day), Order::Ascending, 2).await), ids(&records[..2]));
    let inner = IdRange { first: records[1].id, last: records[2].id };
    assert_eq!(ids(&list(inner, Order::Ascending, 50).await), ids(&records[1..3]));
    records.reverse();
    assert_eq!(list(whole(day), Order::Descending, 50).await, records);
    assert_eq!(ids(&list(whole(day), Order::Descending, 2).await), ids(&records[..2]));
    let none = IdRange { first: inner.last, last: inner.first };
    assert!(list(none, Order::Ascending, 50).await.is_empty());
    assert!(list(whole(day), Order::Ascending, 0).await.is_empty());
    let many: Vec<EventId> = ids(&records).into_iter().chain([EventId::new(day.start(), 77)]).collect();
    let mut found = store.records(&tenant, &many).await.expect("records");
    found.sort_by_key(|record| std::cmp::Reverse(record.id));
    assert_eq!(found, records);
    assert!(store.records(&tenant, &[]).await.expect("records").is_empty());
}

/// More records than one answer carries.
pub async fn a_long_day_is_listed_whole(store: &dyn HotStore, name: &str) {
    let tenant = tenant(&format!("{name}.long"));
    let records: Vec<Record> = (0..1200).map(|n| record(&tenant, START_MS + n / 2, u128::from(n))).collect();
    for some in records.chunks(50) {
        join_all(some.iter().map(|r| stored(store, &tenant, r))).await;
    }
    let mut expected = ids(&records);
    expected.sort_unstable();
    let day = Timestamp::from_ms(START_MS).day();
    let listed = store.day(&tenant, day, whole(day), Order::Ascending, usize::MAX).await.expect("a day");
    assert_eq!(ids(&listed), expected);
    let actor = HotIndex::Actor("user_1".into());
    let indexed = store.index(&tenant, &actor, whole(day), Order::Ascending, 2000).await.expect("an index");
    assert_eq!(indexed, expected);
    let found = store.records(&tenant, &expected[..200]).await.expect("records");
    assert_eq!(found.len(), 200);
    // Paged as a caller does: each page begins behind the last one's end.
    let (mut paged, mut range) = (Vec::new(), whole(day));
    loop {
        let page = store.day(&tenant, day, range, Order::Descending, 333).await.expect("a day");
        paged.extend(ids(&page));
        match page.last() {
            Some(last) if page.len() == 333 => range.last = before(last.id),
            _ => break,
        }
    }
    expected.reverse();
    assert_eq!(paged, expected);
}

/// The id before one whose random bits are not all zero.
fn before(id: EventId) -> EventId {
    let random = id.to_u128() & ((1 << 62) - 1);
    match random.checked_sub(1) {
        Some(random) => EventId::new(id.time(), random),
        None => EventId::last_at(id.time().minus_ms(1)),
    }
}

/// A schedule with one shard before a day and two from it on.
pub async fn shards_are_merged(store: &dyn HotStore, name: &str) {
    let day = Timestamp::from_ms(START_MS).day();
    let tenant = sharded_tenant(&format!("{name}.shards"), day.days(), 1);
    let before = day.previous().expect("not the first day");
    for (day, shards) in [(before, 1), (day, 2)] {
        assert_eq!(tenant.shard_count(day), shards);
        let mut records: Vec<Record> =
            (0..20).map(|n| record(&tenant, day.start().ms() + n / 3, u128::from(n * 7 % 20))).collect();
        for record in &records {
            stored(store, &tenant, record).await;
        }
        records.sort_by_key(|r| r.id);
        let listed = store.day(&tenant, day, whole(day), Order::Ascending, 50).await.expect("a day");
        assert_eq!(listed, records);
        let seven = store.day(&tenant, day, whole(day), Order::Descending, 7).await.expect("a day");
        records.reverse();
        assert_eq!(seven, records[..7]);
        assert_eq!(store.records(&tenant, &ids(&records)).await.expect("records").len(), 20);
        assert_eq!(store.record(&tenant, records[3].id).await.expect("a read").as_ref(), Some(&records[3]));
    }
}

/// By actor, resource and action; a key that begins another finds only its own.
pub async fn indexes_find_whole_keys_only(store: &dyn HotStore, name: &str) {
    let tenant = tenant(&format!("{name}.index"));
    let of = |n: u64, actor, resource, action| {
        record_by(&tenant, START_MS + n * DAY_MS, u128::from(n), actor, resource, action)
    };
    let records = [
        of(0, "u", Some("r"), "invoice.deleted"),
        of(1, "u#1", None, "invoice.deleted.soft"),
        of(2, "u", Some("r#2"), "invoice.deleted"),
        of(3, "ü 3", Some("r"), "invoice.created"),
    ];
    for record in &records {
        stored(store, &tenant, record).await;
    }
    let range = IdRange { first: records[0].id, last: records[3].id };
    for (index, expected) in [
        (HotIndex::Actor("u".into()), &[0, 2][..]),
        (HotIndex::Actor("u#1".into()), &[1]),
        (HotIndex::Actor("ü 3".into()), &[3]),
        (HotIndex::Actor("nobody".into()), &[]),
        (HotIndex::Resource("r".into()), &[0, 3]),
        (HotIndex::Action("invoice.deleted".into()), &[0, 2]),
        (HotIndex::Action("invoice".into()), &[]),
    ] {
        let mut expected: Vec<EventId> = expected.iter().map(|n| records[*n].id).collect();
        let list = async |range, order, limit| {
            store.index(&tenant, &index, range, order, limit).await.expect("an index")
        };
        assert_eq!(list(range, Order::Ascending, 10).await, expected, "{index:?}");
        let first = expected.first().copied();
        assert_eq!(list(range, Order::Ascending, 1).await.first().copied(), first, "{index:?}");
        let none = IdRange { first: range.last, last: range.first };
        assert!(list(none, Order::Ascending, 10).await.is_empty());
        expected.reverse();
        assert_eq!(list(range, Order::Descending, 10).await, expected, "{index:?}");
        expected.retain(|id| *id > records[0].id);
        let later = IdRange { first: EventId::first_at(records[1].occurred_at), last: range.last };
        assert_eq!(list(later, Order::Descending, 10).await, expected, "{index:?}");
    }
}

/// The same ids, actors and days under names that begin alike.
pub async fn tenants_do_not_see_each_other(store: &dyn HotStore, name: &str) {
    let tenants = ["a", "a.b", "a-b", "A"].map(|n| tenant(&format!("{name}.{n}")));
    let day = Timestamp::from_ms(START_MS).day();
    for (n, tenant) in tenants.iter().enumerate() {
        stored(store, tenant, &record(tenant, START_MS, 5)).await;
        stored(store, tenant, &record(tenant, START_MS + 1, n as u128)).await;
    }
    for (n, tenant) in tenants.iter().enumerate() {
        let own = [record(tenant, START_MS, 5), record(tenant, START_MS + 1, n as u128)];
        assert_eq!(store.day(tenant, day, whole(day), Order::Ascending, 9).await.expect("a day"), own);
        let actor = HotIndex::Actor("user_1".into());
        let found = store.index(tenant, &actor, whole(day), Order::Ascending, 9).await.expect("an index");
        assert_eq!(found, ids(&own));
        let foreign = record(&tenants[(n + 1) % 4], START_MS + 1, ((n + 1) % 4) as u128);
        assert!(store.record(tenant, foreign.id).await.expect("a read").is_none());
        assert!(store.records(tenant, &[foreign.id]).await.expect("records").is_empty());
    }
}

/// Noted twice, listed once, of the days asked for.
pub async fn late_days_are_noted_once(store: &dyn HotStore, name: &str) {
    let (tenant, other) = (tenant(&format!("{name}.late")), tenant(&format!("{name}.later")));
    let [d1, d2, d9] = [20_001, 20_002, 20_009].map(Day::from_days);
    for (received, occurred) in [(d9, d2), (d2, d1), (d9, d1), (d9, d2)] {
        store.mark_late(&tenant, received, occurred).await.expect("a note");
    }
    let noted = async |tenant, days| store.late_days(tenant, days).await.expect("late days");
    assert_eq!(noted(&tenant, d1..=d9).await, [(d2, d1), (d9, d1), (d9, d2)]);
    assert_eq!(noted(&tenant, d2..=d2).await, [(d2, d1)]);
    assert_eq!(noted(&tenant, d2.next()..=d9).await, [(d9, d1), (d9, d2)]);
    assert!(noted(&tenant, d1..=d1).await.is_empty());
    assert!(noted(&other, d1..=d9).await.is_empty());
}
