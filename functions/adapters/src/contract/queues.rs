//! The contract of [`Outbox`], [`Inbox`] and [`Backlog`]: three ends of one queue.

use std::collections::BTreeSet;
use stele::limits;
use stele::ports::{Backlog, Inbox, Outbox};

/// Received at once.
const LIMIT: usize = 10;
/// How often an empty answer is asked again: a queue may take a moment.
const ASKED_MAX: usize = 50;

/// All of it, on an empty queue, which is empty again at the end.
pub async fn suite(outbox: &dyn Outbox, inbox: &dyn Inbox, backlog: &dyn Backlog) {
    assert!(!backlog.waiting().await.expect("an answer"), "it is empty");
    let largest = "x".repeat(limits::MESSAGE_BYTES_MAX);
    let sent = ["plain", "ünïcode \u{1F5FF} \"quoted\"\n", largest.as_str()];
    for message in sent {
        outbox.send(message.to_owned()).await.expect("a send");
    }
    assert!(backlog.waiting().await.expect("an answer"), "three wait");
    let mut received = BTreeSet::new();
    let mut names = BTreeSet::new();
    for _ in 0..ASKED_MAX {
        for message in inbox.receive(LIMIT).await.expect("a receipt") {
            assert!(!message.id.is_empty() && message.sent_at.ms() > 0);
            names.insert(message.id);
            received.insert(message.body);
            // Deleting twice is no error.
            inbox.delete(&message.receipt).await.expect("a deletion");
            inbox.delete(&message.receipt).await.expect("a deletion");
        }
        if received.len() == sent.len() {
            break;
        }
    }
    assert_eq!(received, BTreeSet::from(sent.map(str::to_owned)));
    assert_eq!(names.len(), sent.len(), "each has a name of its own");
    assert!(inbox.receive(LIMIT).await.expect("a receipt").is_empty());
    assert!(!backlog.waiting().await.expect("an answer"), "all are deleted");
}
