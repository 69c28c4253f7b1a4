//! The lifecycle rules of the bucket, for stores that have none of their own. They say what may go; whether a lock or a
//! hold forbids it is asked of the store again, which alone deletes.

use stele::layout::{ARCHIVE, SEGMENTS};
use stele::retention::{LifecycleTag, ObjectState};
use stele::time::Timestamp;

/// The prefixes rules are about.
pub(crate) const PREFIXES: [&str; 2] = [SEGMENTS, ARCHIVE];

/// Whether a rule takes an object away.
pub(crate) fn is_over(key: &str, state: &ObjectState, now: Timestamp) -> bool {
    let by_rule = match state.tag {
        Some(LifecycleTag::Archived) => key.starts_with(SEGMENTS),
        Some(LifecycleTag::Class(_)) => key.starts_with(ARCHIVE),
        Some(LifecycleTag::Hold) | None => false,
    };
    by_rule && !state.hold && state.retain_until <= now
}

#[cfg(test)]
mod tests {
    use super::*;
    use stele::retention::Class;

    #[test]
    fn an_object_goes_by_its_own_rule_after_its_lock_and_without_a_hold() {
        let class = Some(LifecycleTag::Class(Class::default()));
        let (archived, hold) = (Some(LifecycleTag::Archived), Some(LifecycleTag::Hold));
        for (key, tag, held, now, over) in [
            ("segments/a", archived, false, 10, true),
            ("segments/a", archived, false, 9, false),
            ("segments/a", archived, true, 10, false),
            ("segments/a", None, false, 10, false),
            ("segments/a", class, false, 10, false),
            ("archive/a", class, false, 10, true),
            ("archive/a", archived, false, 10, false),
            ("archive/a", hold, false, 10, false),
            ("tiles/a", class, false, 10, false),
        ] {
            let state = ObjectState { retain_until: Timestamp::from_ms(10), hold: held, tag };
            assert_eq!(is_over(key, &state, Timestamp::from_ms(now)), over, "{key} {state:?} at {now}");
        }
    }
}
