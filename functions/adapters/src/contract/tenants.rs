//! The contract of [`Tenants`].

use super::sample::tenant_record;
use futures_util::future::join_all;
use stele::id::TenantId;
use stele::ports::Tenants;

/// All of it. `name` begins the tenants' names and must be new to the store.
pub async fn suite(store: &dyn Tenants, name: &str) {
    the_first_creation_stays(store, name).await;
    of_concurrent_creations_one_stays(store, name).await;
    tenants_are_listed_in_order(store, name).await;
}

fn id(text: &str) -> TenantId {
    TenantId::parse(text).expect("the sample is a tenant id")
}

/// Creating again changes nothing and returns what is there.
pub async fn the_first_creation_stays(store: &dyn Tenants, name: &str) {
    let first = tenant_record(&format!("{name}.first"));
    assert_eq!(store.tenant(&id(&first.tenant_id)).await.expect("a read"), None);
    assert_eq!(store.create_tenant(&first).await.expect("a creation"), first);
    let mut second = first.clone();
    second.class_days = 2557;
    assert_eq!(store.create_tenant(&second).await.expect("a creation"), first);
    assert_eq!(store.tenant(&id(&first.tenant_id)).await.expect("a read"), Some(first));
}

/// Sixteen creators: all get the same answer.
pub async fn of_concurrent_creations_one_stays(store: &dyn Tenants, name: &str) {
    let records: Vec<_> = (0..16)
        .map(|n| {
            let mut record = tenant_record(&format!("{name}.race"));
            record.created_ms += n;
            record
        })
        .collect();
    let created = join_all(records.iter().map(|r| store.create_tenant(r))).await;
    let there = store.tenant(&id(&records[0].tenant_id)).await.expect("a read");
    for one in created {
        assert_eq!(Some(one.expect("a creation")), there);
    }
}

/// By rising id, in pages.
pub async fn tenants_are_listed_in_order(store: &dyn Tenants, name: &str) {
    let mut names: Vec<String> = ["b", "a", "a.b", "a-b", "A", "b0"].map(|n| format!("{name}.z.{n}")).into();
    for name in &names {
        store.create_tenant(&tenant_record(name)).await.expect("a creation");
    }
    names.sort();
    // `.z.` sorts behind all the suite's other names; what others have in the store is left out.
    let ours = |listed: Vec<stele::access::TenantRecord>| -> Vec<String> {
        let of_ours = listed.into_iter().map(|r| r.tenant_id);
        of_ours.filter(|id| id.starts_with(&format!("{name}.z."))).collect()
    };
    assert_eq!(ours(store.tenants(None, usize::MAX).await.expect("a listing")), names);
    let mut after = id(&format!("{name}.z"));
    let mut paged = Vec::new();
    loop {
        let page = store.tenants(Some(&after), 2).await.expect("a listing");
        let Some(last) = page.last() else { break };
        after = id(&last.tenant_id);
        let whole = page.len() == 2;
        paged.extend(ours(page));
        if !whole {
            break;
        }
    }
    assert_eq!(paged, names);
}
