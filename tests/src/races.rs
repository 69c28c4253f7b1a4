//! Races on real threads: sealers that meet in one log with batches that overlap, come again and come out of
//! order; clients that send one id at the same time.

use crate::world::{Answer, Sending, World, at_once, event_with_id, until_stuck};
use std::collections::BTreeMap;
use std::sync::Barrier;
use stele::error::Kind;
use stele::id::EventId;
use stele::ports::{Clock, Random};
use stele::record::Record;
use stele_adapters::clock::SeededRandom;
use stele_adapters::dynamodb::stream::lambda_event_of;

/// Rounds per number of sealers.
const ROUNDS: u64 = 4;

/// Delivers batches, each until it is sealed, as a stream's mapping does.
fn seal_until_done(world: &World, batches: Vec<Vec<Record>>) {
    let sealer = world.sealer();
    for batch in batches {
        loop {
            let outcome = until_stuck(sealer.handle(&lambda_event_of(&batch, 0))).unwrap().unwrap();
            if outcome.unsealed.is_empty() {
                break;
            }
            for unsealed in outcome.unsealed {
                assert_eq!(unsealed.error.kind(), Kind::Unavailable, "{}", unsealed.error);
            }
        }
    }
}

/// Each record in at least one batch, most in several; in any order.
fn overlapping(records: &[Record], random: &SeededRandom) -> Vec<Vec<Record>> {
    let below = |n: usize| (random.next_u64() % n as u64) as usize;
    let mut batches: Vec<Vec<Record>> = records.chunks(7).map(<[Record]>::to_vec).collect();
    for _ in 0..batches.len() {
        let first = below(records.len());
        let mut batch = records[first..records.len().min(first + 1 + below(12))].to_vec();
        batch.reverse();
        batches.push(batch);
    }
    for at in (1..batches.len()).rev() {
        batches.swap(at, below(at + 1));
    }
    batches
}

#[test]
fn sealers_that_race_on_one_tenant_make_one_log() {
    for sealers in 2..=8 {
        for round in 0..ROUNDS {
            let random = SeededRandom::new(sealers * 1_000 + round);
            let world = World::new();
            let ingest = world.ingest();
            for n in 0..40_u128 {
                world.clock.advance_ms(random.next_u64() % 3);
                let id = EventId::new(world.clock.now().minus_ms(random.next_u64() % 5_000), n);
                at_once(world.send(&ingest, &Sending::one(event_with_id("org_acme", id))));
            }
            let records = world.take_stream();
            let barrier = Barrier::new(sealers as usize);
            std::thread::scope(|scope| {
                for _ in 0..sealers {
                    let batches = overlapping(&records, &random);
                    let (world, barrier) = (&world, &barrier);
                    scope.spawn(move || {
                        barrier.wait();
                        seal_until_done(world, batches);
                    });
                }
            });
            until_stuck(world.check())
                .unwrap_or_else(|| panic!("{sealers} sealers, round {round}: unsigned leaves"));
        }
    }
}

#[test]
fn one_id_sent_sixteen_times_at_once_is_stored_once_and_replayed_fifteen_times() {
    for round in 0..20 {
        let world = World::new();
        let ingest = world.ingest();
        let id = EventId::new(world.clock.now(), SeededRandom::new(round).bits());
        let ways = [
            Sending::one(event_with_id("org_acme", id)),
            Sending::one(crate::world::event_with_external_id("org_acme", "order-1")),
            Sending::one(crate::world::event("org_acme", "")).with_key("key-1"),
        ];
        for sending in ways {
            let barrier = Barrier::new(16);
            let answers: Vec<Answer> = std::thread::scope(|scope| {
                let send = || {
                    barrier.wait();
                    at_once(world.send(&ingest, &sending)).remove(0)
                };
                let threads: Vec<_> = (0..16).map(|_| scope.spawn(send)).collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).collect()
            });
            let mut statuses = BTreeMap::new();
            for answer in &answers {
                *statuses.entry(answer.status).or_insert(0) += 1;
                assert_eq!(answer.receipt, answers[0].receipt, "another receipt for {sending:?}");
            }
            assert_eq!(statuses, BTreeMap::from([(200, 15), (201, 1)]), "{sending:?}");
        }
        let sealer = world.sealer();
        assert_eq!(at_once(world.seal_stream(&sealer)).sealed, 3);
        until_stuck(world.check()).unwrap();
    }
}
