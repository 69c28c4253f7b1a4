//! The local stand-in for Lambda's queue mapping: it receives what waits, calls drain, and deletes what is decided.

use std::sync::Arc;
use std::time::Duration;
use stele::ports::Inbox;
use stele_drain::Drain;
use tokio::sync::watch;

/// How often the queue is looked at.
const EVERY: Duration = Duration::from_millis(250);
/// Messages received at once: Lambda's default.
const MESSAGES: usize = 10;

pub(crate) struct Draining {
    pub(crate) drain: Drain,
    pub(crate) inbox: Arc<dyn Inbox>,
}

impl Draining {
    /// Drains until told to stop; then once more, so that a clean stop leaves nothing waiting that can be stored.
    pub(crate) async fn run(self, mut stop: watch::Receiver<bool>) {
        loop {
            let stopping = *stop.borrow();
            // A batch of which nothing could be decided is left for later: it would be the next one again.
            while self.batch().await {}
            if stopping {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(EVERY) => {}
                _ = stop.changed() => {}
            }
        }
    }

    /// Handles a batch; says whether there may be more that can be handled now.
    async fn batch(&self) -> bool {
        let messages = match self.inbox.receive(MESSAGES).await {
            Ok(messages) => messages,
            Err(error) => {
                tracing::warn!(%error, "receiving messages failed, trying again");
                return false;
            }
        };
        let mut decided = 0;
        for message in &messages {
            let handled = match self.drain.handle(message).await {
                // A crash before this deletion handles the message again, which stores nothing twice.
                Ok(_) => self.inbox.delete(&message.receipt).await,
                Err(error) => Err(error),
            };
            match handled {
                Ok(()) => decided += 1,
                Err(error) => tracing::warn!(message = message.id, %error, "a message waits on"),
            }
        }
        decided > 0 && messages.len() == MESSAGES
    }
}
