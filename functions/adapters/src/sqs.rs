//! A queue in SQS. In a deployed installation Lambda does the receiving.

use crate::failure::failed;
use async_trait::async_trait;
use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::{MessageSystemAttributeName, QueueAttributeName};
use stele::ports::{Backlog, Inbox, Outbox};
use stele::spill::Delivered;
use stele::time::Timestamp;
use stele::{Code, Error, Result, limits};

/// What waits, what is being worked on, what is not yet to be seen.
const COUNTS: [QueueAttributeName; 3] = [
    QueueAttributeName::ApproximateNumberOfMessages,
    QueueAttributeName::ApproximateNumberOfMessagesNotVisible,
    QueueAttributeName::ApproximateNumberOfMessagesDelayed,
];

/// SQS gives at most so many messages at once.
const RECEIVED_MAX: usize = 10;

/// A standard queue.
#[derive(Clone, Debug)]
pub struct SqsQueue {
    client: Client,
    url: String,
}

impl SqsQueue {
    /// By its URL.
    pub fn new(client: Client, url: impl Into<String>) -> SqsQueue {
        SqsQueue { client, url: url.into() }
    }
}

#[async_trait]
impl Outbox for SqsQueue {
    async fn send(&self, message: String) -> Result<()> {
        const DOING: &str = "queueing a message";
        if message.len() > limits::MESSAGE_BYTES_MAX {
            return Err(Error::new(Code::Internal, format!("{DOING} of {} bytes", message.len())));
        }
        let request = self.client.send_message().queue_url(&self.url).message_body(message);
        request.send().await.map_err(|e| failed(DOING, e))?;
        Ok(())
    }
}

#[async_trait]
impl Backlog for SqsQueue {
    async fn waiting(&self) -> Result<bool> {
        let request = self.client.get_queue_attributes().queue_url(&self.url);
        let request = request.set_attribute_names(Some(COUNTS.to_vec()));
        let answer = request.send().await.map_err(|e| failed("asking how much waits in a queue", e))?;
        let attributes = answer.attributes.unwrap_or_default();
        // A count that is missing or no number may be anything: then something may wait.
        Ok(COUNTS.iter().any(|name| attributes.get(name).is_none_or(|count| count != "0")))
    }
}

#[async_trait]
impl Inbox for SqsQueue {
    async fn receive(&self, limit: usize) -> Result<Vec<Delivered>> {
        let request = self
            .client
            .receive_message()
            .queue_url(&self.url)
            // At most RECEIVED_MAX, which an i32 holds.
            .max_number_of_messages(limit.clamp(1, RECEIVED_MAX) as i32)
            .message_system_attribute_names(MessageSystemAttributeName::SentTimestamp);
        let answer = request.send().await.map_err(|e| failed("receiving messages", e))?;
        let delivered = |message: aws_sdk_sqs::types::Message| {
            let attributes = message.attributes.unwrap_or_default();
            let sent =
                attributes.get(&MessageSystemAttributeName::SentTimestamp).and_then(|ms| ms.parse().ok());
            Delivered {
                id: message.message_id.unwrap_or_default(),
                receipt: message.receipt_handle.unwrap_or_default(),
                sent_at: Timestamp::from_ms(sent.unwrap_or_default()),
                body: message.body.unwrap_or_default(),
            }
        };
        Ok(answer.messages.unwrap_or_default().into_iter().map(delivered).collect())
    }

    async fn delete(&self, receipt: &str) -> Result<()> {
        let request = self.client.delete_message().queue_url(&self.url).receipt_handle(receipt);
        match request.send().await {
            Ok(_) => Ok(()),
            // Its message is gone, or will come again under another receipt.
            Err(error) if error.as_service_error().is_some_and(|e| e.is_receipt_handle_is_invalid()) => {
                Ok(())
            }
            Err(error) => Err(failed("deleting a message", error)),
        }
    }
}
