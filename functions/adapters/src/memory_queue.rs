//! A queue in memory: for tests, which decide how often and in which order its messages are delivered.

use async_trait::async_trait;
use std::sync::Arc;
use std::sync::{Mutex, MutexGuard, PoisonError};
use stele::Result;
use stele::ports::{Backlog, Clock, Inbox, Outbox};
use stele::spill::Delivered;

/// Messages, by the order they were sent in.
pub struct MemoryQueue {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    sent: u64,
    messages: Vec<Delivered>,
}

impl MemoryQueue {
    /// An empty one.
    pub fn new(clock: Arc<dyn Clock>) -> MemoryQueue {
        MemoryQueue { clock, state: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Outbox for MemoryQueue {
    async fn send(&self, message: String) -> Result<()> {
        let sent_at = self.clock.now();
        let mut state = self.lock();
        state.sent += 1;
        let id = format!("m-{}", state.sent);
        state.messages.push(Delivered { receipt: id.clone(), id, sent_at, body: message });
        Ok(())
    }
}

#[async_trait]
impl Backlog for MemoryQueue {
    async fn waiting(&self) -> Result<bool> {
        Ok(!self.lock().messages.is_empty())
    }
}

#[async_trait]
impl Inbox for MemoryQueue {
    async fn receive(&self, limit: usize) -> Result<Vec<Delivered>> {
        Ok(self.lock().messages.iter().take(limit).cloned().collect())
    }

    async fn delete(&self, receipt: &str) -> Result<()> {
        self.lock().messages.retain(|message| message.receipt != receipt);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;

    #[tokio::test]
    async fn memory_passes_the_suite() {
        let queue = MemoryQueue::new(Arc::new(SystemClock));
        crate::contract::queues::suite(&queue, &queue, &queue).await;
    }
}
