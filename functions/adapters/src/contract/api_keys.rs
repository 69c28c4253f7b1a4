//! The contract of [`ApiKeys`].

use super::sample::api_key;
use stele::access::{ApiKey, KeyHash};
use stele::ports::ApiKeys;
use stele::time::Timestamp;

/// All of it. `name` begins the keys' ids and must be new to the store.
pub async fn suite(store: &dyn ApiKeys, name: &str) {
    keys_are_found_by_hash_and_listed_by_id(store, name).await;
    a_key_is_revoked_once_and_for_good(store, name).await;
    creating_again_changes_nothing(store, name).await;
}

fn hash_of(key: &ApiKey) -> KeyHash {
    KeyHash::of(&format!("the text of {}", key.key_id))
}

/// Two keys, out of order.
pub async fn keys_are_found_by_hash_and_listed_by_id(store: &dyn ApiKeys, name: &str) {
    let keys = ["2", "1"].map(|n| api_key(&format!("{name}list{n}")));
    for key in &keys {
        assert_eq!(store.api_key(hash_of(key)).await.expect("a read"), None);
        store.create_api_key(hash_of(key), key).await.expect("a creation");
        assert_eq!(store.api_key(hash_of(key)).await.expect("a read").as_ref(), Some(key));
    }
    let listed = store.api_keys().await.expect("a listing");
    let prefix = format!("{name}list");
    let listed: Vec<ApiKey> = listed.into_iter().filter(|k| k.key_id.starts_with(&prefix)).collect();
    assert_eq!(listed, [keys[1].clone(), keys[0].clone()]);
}

/// The time of the first revocation stays.
pub async fn a_key_is_revoked_once_and_for_good(store: &dyn ApiKeys, name: &str) {
    let key = api_key(&format!("{name}revoke"));
    let [t1, t2] = [1, 2].map(|n| Timestamp::from_ms(key.created_ms + n));
    assert_eq!(store.revoke_api_key(&key.key_id, t1).await.expect("a revocation"), None);
    store.create_api_key(hash_of(&key), &key).await.expect("a creation");
    let revoked = ApiKey { revoked_ms: Some(t1.ms()), ..key.clone() };
    for now in [t1, t2] {
        let answer = store.revoke_api_key(&key.key_id, now).await.expect("a revocation");
        assert_eq!(answer.as_ref(), Some(&revoked));
    }
    assert_eq!(store.api_key(hash_of(&key)).await.expect("a read"), Some(revoked.clone()));
    assert!(store.api_keys().await.expect("a listing").contains(&revoked));
}

/// A repeated creation, as after a lost answer, does not bring a revoked key back; what is taken is refused.
pub async fn creating_again_changes_nothing(store: &dyn ApiKeys, name: &str) {
    let key = api_key(&format!("{name}again"));
    store.create_api_key(hash_of(&key), &key).await.expect("a creation");
    let now = Timestamp::from_ms(key.created_ms + 1);
    let revoked = store.revoke_api_key(&key.key_id, now).await.expect("a revocation");
    store.create_api_key(hash_of(&key), &key).await.expect("a repeated creation");
    assert_eq!(store.api_key(hash_of(&key)).await.expect("a read"), revoked);
    let other = api_key(&format!("{name}other"));
    assert!(store.create_api_key(hash_of(&key), &other).await.is_err());
    assert!(store.create_api_key(hash_of(&other), &key).await.is_err());
    assert_eq!(store.api_key(hash_of(&other)).await.expect("a read"), None);
    assert_eq!(store.revoke_api_key(&other.key_id, now).await.expect("a revocation"), None);
}
