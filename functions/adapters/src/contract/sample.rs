//! Small valid values for the suites and for the round-trip tests of stored kinds.

use stele::access::{ApiKey, Scope, Shards, Tenant, TenantRecord};
use stele::archive::ArchiveEntry;
use stele::export::{Export, Format, Selection, Since, State};
use stele::id::{EventId, TenantId};
use stele::public_key::PublicKey;
use stele::record::Record;
use stele::retention::{Class, LegalHold};
use stele::segment::{Head, HeadKey, IndexEntry, Published};
use stele::time::Timestamp;
use stele::tlog::checkpoint::Origin;
use stele::tlog::hash::{Hash, LeafIndex, TreeSize, leaf_hash};
use stele::tlog::range::{CompactRange, Subtrees};
use stele::tlog::tree::RightEdge;

/// A tenant's record with the defaults.
pub fn tenant_record(id: &str) -> TenantRecord {
    let id = TenantId::parse(id).expect("the sample is a tenant id");
    let origin = Origin::parse("log.example/0123456789abcdef").expect("the sample is an origin");
    TenantRecord::new(&id, &origin, Timestamp::from_ms(1_767_225_600_000))
}

/// A tenant with one shard.
pub fn tenant(id: &str) -> Tenant {
    Tenant::on_record(tenant_record(id)).expect("the sample's parts are valid")
}

/// A tenant whose days from `from_day` on (since 1970) have 2^`bits` shards.
pub fn sharded_tenant(id: &str, from_day: u32, bits: u8) -> Tenant {
    let mut record = tenant_record(id);
    record.shards = vec![Shards { from_day, bits }];
    Tenant::on_record(record).expect("the sample's parts are valid")
}

/// A record of actor `user_1`, action `invoice.deleted`, resource `inv_1`.
pub fn record(tenant: &Tenant, occurred_ms: u64, random: u128) -> Record {
    record_by(tenant, occurred_ms, random, "user_1", Some("inv_1"), "invoice.deleted")
}

/// A record with the members that are indexed; received a second after it occurred.
pub fn record_by(
    tenant: &Tenant,
    occurred_ms: u64,
    random: u128,
    actor: &str,
    resource: Option<&str>,
    action: &str,
) -> Record {
    let occurred_at = Timestamp::from_ms(occurred_ms);
    let (id, received_at) = (EventId::new(occurred_at, random), occurred_at.plus_ms(1000));
    let resource = resource.map(|id| format!(r#""resource":{{"id":"{id}","type":"invoice"}},"#));
    let leaf = format!(
        concat!(
            r#"{{"action":"{action}","actor":{{"id":"{actor}","type":"user"}},"id":"{id}","key_id":"k1","#,
            r#""occurred_at":"{occurred_at}","outcome":"success","received_at":"{received_at}",{resource}"#,
            r#""tenant_id":"{tenant}","v":1}}"#
        ),
        action = action,
        actor = actor,
        id = id,
        occurred_at = occurred_at,
        received_at = received_at,
        resource = resource.unwrap_or_default(),
        tenant = tenant.id(),
    );
    Record::from_leaf(leaf.into_bytes()).expect("the sample is a leaf")
}

/// A key bound to no tenant.
pub fn api_key(key_id: &str) -> ApiKey {
    ApiKey {
        key_id: key_id.to_owned(),
        tenant: None,
        scopes: vec![Scope::EventsWrite, Scope::EventsRead],
        name: "sample".to_owned(),
        created_ms: 1_767_225_600_000,
        revoked_ms: None,
    }
}

/// The head of a log of so many leaves.
pub fn head(revision: u64, leaves: u64) -> Head {
    let mut edge = RightEdge::empty();
    for leaf in 0..leaves {
        edge.append(leaf_hash(&leaf.to_be_bytes()));
    }
    Head {
        revision,
        edge,
        checkpoint: if leaves == 0 { String::new() } else { format!("log.example/0123\n{leaves}\n…\n") },
        sealed_at: Timestamp::from_ms(1_767_225_600_000 + leaves),
        received_max: Timestamp::from_ms(1_767_225_599_000 + leaves),
        validated_at: Timestamp::from_ms(1_767_225_500_000),
        published: Published { size: TreeSize::new(leaves / 2), at: Timestamp::from_ms(1_767_225_400_000) },
        month_base: TreeSize::new(leaves / 3),
        key: (leaves > 1).then(|| HeadKey {
            public: PublicKey::of_seed(&[9; 32]),
            from: TreeSize::new(leaves / 4),
            is_told: leaves > 5,
        }),
    }
}

/// The entry of a segment with leaves [first, end).
pub fn index_entry(first: u64, end: u64) -> IndexEntry {
    let at = |n: u64| Timestamp::from_ms(1_767_225_600_000 + n);
    IndexEntry {
        first: LeafIndex::new(first),
        end: TreeSize::new(end),
        received_min: at(first),
        received_max: at(end),
        running_received_max: at(end + 1),
        id_min: EventId::first_at(at(first)),
        id_max: EventId::last_at(at(end)),
        sealed_at: at(end + 2),
        version: "v1".to_owned(),
        sha256: Hash::of(&first.to_be_bytes()),
        subtrees: (first > 0).then(|| {
            Subtrees::of(TreeSize::new(first), (first..end).map(|leaf| leaf_hash(&leaf.to_be_bytes())))
        }),
    }
}

/// The entry of a file of the archive with leaves [first, end).
pub fn archive_entry(first: u64, end: u64) -> ArchiveEntry {
    let at = |n: u64| Timestamp::from_ms(1_767_225_600_000 + n);
    ArchiveEntry {
        first: LeafIndex::new(first),
        end: TreeSize::new(end),
        sealed_first: at(end + 2),
        sealed_last: at(end + 3),
        received_min: at(first),
        received_max: at(end),
        running_received_max: at(end + 1),
        id_min: EventId::first_at(at(first)),
        id_max: EventId::last_at(at(end)),
        bytes: 1000 * (end - first),
        version: "v1".to_owned(),
        sha256: Hash::of(&first.to_be_bytes()),
        class: Class::default(),
        expired: None,
        range: (first > 0).then(|| {
            let mut range = CompactRange::empty(TreeSize::new(first));
            (first..end).for_each(|leaf| range.append(leaf_hash(&leaf.to_be_bytes())));
            range
        }),
    }
}

/// An open hold on the year 2026.
pub fn legal_hold(id: &str) -> LegalHold {
    LegalHold {
        id: id.to_owned(),
        from_ms: Some(1_767_225_600_000),
        to_ms: Some(1_798_761_600_000),
        reason: "case 4711".to_owned(),
        placed_ms: 1_767_225_600_000,
        placed_by: "k1".to_owned(),
        enforcement: 1,
        released_ms: None,
        released_by: None,
    }
}

/// An export of the first nine leaves, the n-th of a series.
pub fn export(n: u64) -> Export {
    let at = Timestamp::from_ms(1_767_225_600_000 + n);
    Export {
        id: Export::id(at, u128::from(n)),
        revision: 0,
        created_ms: at.ms(),
        created_by: "k1".to_owned(),
        selection: Selection::new(Format::Csv, vec![("actor_id".to_owned(), "u1".to_owned())], false),
        since: Since::Beginning,
        first: 0,
        end: 9,
        archived: 4,
        sealed_ms: at.ms(),
        sent_ms: at.ms(),
        state: State::Queued,
        attempts: 0,
        done: 0,
        claim: None,
        finished_ms: None,
        file: None,
        failure: None,
    }
}
