//! A log's head: a cache of what the locked objects say, and where writers meet.

use super::item::{Item, Reader, b, hashes_of, item, n, s};
use stele::Result;
use stele::access::Tenant;
use stele::public_key::PublicKey;
use stele::segment::{Head, HeadKey, Published};
use stele::tlog::tree::RightEdge;

const KIND: &str = "table of control, head";

/// Its key.
pub(super) fn key(tenant: &Tenant) -> Item {
    item([("pk", s(format!("head#{}#{}", tenant.id(), tenant.log()))), ("sk", s("head"))])
}

/// The item.
pub(super) fn encode(tenant: &Tenant, head: &Head) -> Item {
    let mut item = key(tenant);
    let edge: Vec<u8> = head.edge.hashes().iter().flat_map(|hash| *hash.as_bytes()).collect();
    for (name, value) in [
        ("revision", n(head.revision)),
        ("size", n(head.size().to_u64())),
        ("edge", b(edge)),
        ("checkpoint", s(head.checkpoint.as_str())),
        ("sealed_at", n(head.sealed_at.ms())),
        ("received_max", n(head.received_max.ms())),
        ("validated_at", n(head.validated_at.ms())),
        ("published_size", n(head.published.size.to_u64())),
        ("published_at", n(head.published.at.ms())),
        ("month_base", n(head.month_base.to_u64())),
    ] {
        item.insert(name.to_owned(), value);
    }
    if let Some(key) = &head.key {
        item.insert("key".to_owned(), b(key.public.0));
        item.insert("key_from".to_owned(), n(key.from.to_u64()));
        item.insert("key_told".to_owned(), n(u64::from(key.is_told)));
    }
    item
}

/// The head of an item.
pub(super) fn decode(item: &Item) -> Result<Head> {
    let reader = Reader::new(KIND, item);
    let (size, bytes) = (reader.size("size")?, reader.b("edge")?);
    let edge = hashes_of(bytes)
        .and_then(|hashes| RightEdge::from_parts(size, hashes))
        .ok_or_else(|| reader.corrupt("edge", &format!("the edge of {size} leaves"), "another"))?;
    Ok(Head {
        revision: reader.n("revision")?,
        edge,
        checkpoint: reader.s("checkpoint")?.to_owned(),
        sealed_at: reader.time("sealed_at")?,
        received_max: reader.time("received_max")?,
        validated_at: reader.time("validated_at")?,
        published: Published { size: reader.size("published_size")?, at: reader.time("published_at")? },
        month_base: reader.size("month_base")?,
        key: match item.contains_key("key") {
            false => None,
            true => Some(HeadKey {
                public: PublicKey(*reader.hash("key")?.as_bytes()),
                from: reader.size("key_from")?,
                is_told: reader.n("key_told")? != 0,
            }),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::sample::{head, tenant};
    use stele::Code;

    #[test]
    fn heads_come_back() {
        for leaves in [0, 1, 5, 64] {
            let head = head(3, leaves);
            assert_eq!(decode(&encode(&tenant("acme"), &head)).unwrap(), head);
        }
    }

    #[test]
    fn an_edge_that_does_not_fit_its_size_is_corrupt() {
        let mut item = encode(&tenant("acme"), &head(3, 5));
        item.insert("size".into(), n(4));
        let refused = decode(&item).unwrap_err();
        assert_eq!(refused.code(), Code::Corrupt);
        assert!(refused.detail().contains("`edge`"), "{refused}");
    }
}
