//! The contract of [`ExportFiles`].

use super::sample::{export, tenant};
use bytes::Bytes;
use futures_util::future::join_all;
use std::path::Path;
use stele::export::{Export, ExportedFile};
use stele::ports::{ExportFiles, ExportLink, Spooled};
use stele::tlog::hash::Hash;

/// All of it. `spool` is a folder for files under way, `read` follows a link of the store's kind.
pub async fn suite<T: ExportFiles>(store: &T, spool: &Path, read: impl Fn(ExportLink) -> Option<Bytes>) {
    let owner = tenant("exported");
    let (key, other) = (export(1).key(owner.id()), export(2).key(owner.id()));
    let spooled = |name: &str, bytes: &[u8]| {
        let path = spool.join(name);
        std::fs::write(&path, bytes).expect("a spooled file");
        Spooled { path, bytes: bytes.len() as u64, sha256: Hash::of(bytes) }
    };
    let facts = |file: &Spooled, events| ExportedFile {
        bytes: file.bytes,
        sha256: file.sha256.to_string(),
        events,
        first: 3,
        end: 9,
        expired: 1,
    };
    let link = async |key| store.link(key, "a b\".csv", "text/csv; charset=utf-8").await.expect("a link");

    assert_eq!(store.exported(&key).await.expect("a read"), None);
    let first = spooled("first", b"first,\xc3\xa4\r\n");
    assert!(store.put_export(&key, &first, &facts(&first, 5)).await.expect("a put"));
    assert_eq!(store.exported(&key).await.expect("a read"), Some(facts(&first, 5)));
    assert_eq!(link(&key).await.and_then(&read).as_deref(), Some(&b"first,\xc3\xa4\r\n"[..]));

    // It is never replaced, not even by the same.
    let second = spooled("second", b"second");
    for (file, events) in [(&second, 6), (&first, 7)] {
        assert!(!store.put_export(&key, file, &facts(file, events)).await.expect("a put"));
        assert_eq!(store.exported(&key).await.expect("a read"), Some(facts(&first, 5)));
    }
    assert_eq!(store.exported(&other).await.expect("a read"), None);

    // An empty one is one, too.
    let empty = spooled("empty", b"");
    assert!(store.put_export(&other, &empty, &facts(&empty, 0)).await.expect("a put"));
    assert_eq!(store.exported(&other).await.expect("a read"), Some(facts(&empty, 0)));
    assert_eq!(link(&other).await.and_then(&read), Some(Bytes::new()));

    // Of eight at once one is there, whole and with what is told of it.
    let race = Export { id: export(3).id, ..export(3) }.key(owner.id());
    let files: Vec<Spooled> = (0..8_u8).map(|n| spooled(&format!("race{n}"), &vec![n; 1 << 16])).collect();
    let all: Vec<ExportedFile> = files.iter().zip(0..).map(|(file, n)| facts(file, n)).collect();
    let puts = files.iter().zip(&all).map(|(file, facts)| store.put_export(&race, file, facts));
    let created: Vec<bool> = join_all(puts).await.into_iter().map(|put| put.expect("a put")).collect();
    assert_eq!(created.iter().filter(|created| **created).count(), 1, "{created:?}");
    let winner = created.iter().position(|created| *created).expect("one");
    assert_eq!(store.exported(&race).await.expect("a read").as_ref(), Some(&all[winner]));
    let bytes = link(&race).await.and_then(&read).expect("its bytes");
    assert_eq!(Hash::of(&bytes), files[winner].sha256);
}
