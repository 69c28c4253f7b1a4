//! Time and randomness: the only place that asks the operating system for either, and their stand-ins for
//! tests.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use stele::ports::{Clock, Random};
use stele::time::Timestamp;

/// The operating system's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        timestamp(SystemTime::now())
    }
}

/// A file's or clock's time in our terms, cut to 1970 and 9999.
pub(crate) fn timestamp(time: SystemTime) -> Timestamp {
    let since_1970 = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_ms(u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX))
}

/// The operating system's randomness.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemRandom;

impl Random for SystemRandom {
    fn fill(&self, bytes: &mut [u8]) {
        // Ids and secrets that can be guessed would be worse than a process that stops.
        getrandom::fill(bytes).expect("the operating system gives random bytes");
    }
}

/// Between two looks of somebody who waits.
const BETWEEN_LOOKS: Duration = Duration::from_millis(500);

/// How long somebody waits for something new, looking now and then. Waiting, the thread is free for others.
#[derive(Debug)]
pub struct Patience {
    ends: tokio::time::Instant,
}

impl Patience {
    /// So many seconds of it, from now on.
    pub fn of_seconds(seconds: usize) -> Patience {
        Patience { ends: tokio::time::Instant::now() + Duration::from_secs(seconds as u64) }
    }

    /// Waits until it is time to look again; false if there is no patience left.
    pub async fn again(&self) -> bool {
        let left = self.ends.saturating_duration_since(tokio::time::Instant::now());
        if left.is_zero() {
            return false;
        }
        tokio::time::sleep(left.min(BETWEEN_LOOKS)).await;
        true
    }
}

/// A clock that stands still until it is told to move.
#[derive(Debug, Default)]
pub struct ManualClock(AtomicU64);

impl ManualClock {
    /// A clock that shows this time.
    pub fn new(now: Timestamp) -> ManualClock {
        ManualClock(AtomicU64::new(now.ms()))
    }

    /// Sets it, forwards or back.
    pub fn set(&self, now: Timestamp) {
        self.0.store(now.ms(), Ordering::SeqCst);
    }

    /// Moves it on and returns what it then shows.
    pub fn advance_ms(&self, ms: u64) -> Timestamp {
        Timestamp::from_ms(self.0.fetch_add(ms, Ordering::SeqCst).saturating_add(ms))
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_ms(self.0.load(Ordering::SeqCst))
    }
}

/// Bytes that follow from a seed: for simulations that must repeat themselves, never for secrets.
#[derive(Debug)]
pub struct SeededRandom(AtomicU64);

/// 2^64 over the golden ratio, odd: its multiples visit every 64-bit number (SplitMix64).
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

impl SeededRandom {
    /// The sequence of a seed.
    pub fn new(seed: u64) -> SeededRandom {
        SeededRandom(AtomicU64::new(seed))
    }

    /// The next 64 bits.
    pub fn next_u64(&self) -> u64 {
        let mut z = self.0.fetch_add(STEP, Ordering::SeqCst).wrapping_add(STEP);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

impl Random for SeededRandom {
    fn fill(&self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.next_u64().to_be_bytes()[..chunk.len()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_itself_and_another_seed_does_not() {
        let bytes = |seed| {
            let random = SeededRandom::new(seed);
            let mut out = [0; 21];
            random.fill(&mut out);
            (out, random.bits())
        };
        assert_eq!(bytes(7), bytes(7));
        assert_ne!(bytes(7), bytes(8));
    }

    #[test]
    fn system_randomness_differs_from_call_to_call() {
        assert_ne!(SystemRandom.bits(), SystemRandom.bits());
    }

    #[test]
    fn a_manual_clock_moves_only_when_told() {
        let clock = ManualClock::new(Timestamp::from_ms(5));
        assert_eq!(clock.now().ms(), 5);
        assert_eq!(clock.advance_ms(10), clock.now());
        clock.set(Timestamp::from_ms(3));
        assert_eq!(clock.now().ms(), 3);
    }

    #[test]
    fn the_system_clock_is_past_2020() {
        assert!(SystemClock.now() > Timestamp::from_ms(1_577_836_800_000));
        assert_eq!(timestamp(UNIX_EPOCH - std::time::Duration::from_secs(1)).ms(), 0);
    }
}
