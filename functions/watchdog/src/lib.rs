//! The watchdog function: when nobody proves any more that records are in the log before the hot store forgets them, the hot
//! store stops forgetting.
//!
//! An alarm calls it. It only ever switches the table's time to live off; switching it on again, once reconcile is well,
//! is for people, as the runbook says.

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::types::{TimeToLiveSpecification, TimeToLiveStatus};
use std::error::Error as StdError;
use stele::{Code, Error, Result};

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// The table forgets nothing from now on; DynamoDB may take an hour to get there.
    Now,
    /// It was off before, or on its way there.
    Before,
}

/// Switches off the time to live of a table's items. Idempotent.
///
/// # Errors
/// `unavailable` when it is not off yet: to be tried again. DynamoDB takes one change per table and hour, so that may last
/// an hour after somebody switched it on.
pub async fn stop_forgetting(client: &Client, table: &str) -> Result<Stopped> {
    let Some(attribute) = forgetting_by(client, table).await? else { return Ok(Stopped::Before) };
    let off = TimeToLiveSpecification::builder().attribute_name(attribute).enabled(false).build();
    let off = off.map_err(|e| Error::new(Code::Internal, "asking for no time to live").with_source(e))?;
    let update = client.update_time_to_live().table_name(table).time_to_live_specification(off);
    match update.send().await {
        Ok(_) => Ok(Stopped::Now),
        // Refused, or of unknown outcome: somebody may have been faster, we ourselves in a lost answer too.
        Err(error) => match forgetting_by(client, table).await? {
            None => Ok(Stopped::Before),
            Some(_) => Err(failed("switching a table's time to live off", error)),
        },
    }
}

/// The attribute after whose time the table forgets; `None` if it forgets nothing, or is about to.
async fn forgetting_by(client: &Client, table: &str) -> Result<Option<String>> {
    let described = client.describe_time_to_live().table_name(table).send().await;
    let described = described.map_err(|e| failed("reading a table's time to live", e))?;
    let described = described.time_to_live_description;
    let status = described.as_ref().and_then(|ttl| ttl.time_to_live_status.clone());
    match status {
        None | Some(TimeToLiveStatus::Disabled | TimeToLiveStatus::Disabling) => Ok(None),
        // Enabled, about to be, or something newer than this program.
        Some(_) => {
            let attribute = described.and_then(|ttl| ttl.attribute_name);
            attribute
                .map(Some)
                .ok_or_else(|| Error::corrupt(format!("time to live of `{table}`"), "an attribute", "none"))
        }
    }
}

fn failed<E>(doing: &str, error: SdkError<E>) -> Error
where
    E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
{
    Error::unavailable(format!("{doing} failed")).with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::thread::JoinHandle;
    use stele_adapters::dynamodb::local_client;
    use stele_local::dynoxide::EmbeddedDynamo;

    const ENABLED: &str =
        r#"{"TimeToLiveDescription":{"AttributeName":"expires","TimeToLiveStatus":"ENABLED"}}"#;
    const DISABLING: &str =
        r#"{"TimeToLiveDescription":{"AttributeName":"expires","TimeToLiveStatus":"DISABLING"}}"#;
    const TOO_SOON: &str = concat!(
        r##"{"__type":"com.amazon.coral.validate#ValidationException","##,
        r##""message":"Time to live has been modified multiple times within a fixed interval"}"##
    );

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_table_stops_forgetting_once_and_stays_so() {
        let dynamo = EmbeddedDynamo::start(None).await.unwrap();
        let client = local_client(dynamo.endpoint());
        let table = dynamo.store().events_table();
        assert!(forgetting_by(&client, table).await.unwrap().is_some());
        assert_eq!(stop_forgetting(&client, table).await.unwrap(), Stopped::Now);
        assert_eq!(stop_forgetting(&client, table).await.unwrap(), Stopped::Before);
        assert_eq!(forgetting_by(&client, table).await.unwrap(), None);
        let none = stop_forgetting(&client, "no-such-table").await.unwrap_err();
        assert_eq!(none.code(), Code::Unavailable);
    }

    /// A DynamoDB that gives these answers, one per connection, and returns what it was asked to do.
    fn scripted(answers: &'static [(u16, &'static str)]) -> (String, JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let serve = move || {
            let answer = |(status, body): &(u16, &str)| {
                let (mut stream, _) = listener.accept().unwrap();
                let (mut request, mut bytes) = (String::new(), [0; 4096]);
                // The bodies asked with are one object each, the only braces of a request.
                while !request.ends_with('}') {
                    let read = stream.read(&mut bytes).unwrap();
                    request.push_str(std::str::from_utf8(&bytes[..read]).unwrap());
                }
                let head = format!(
                    "HTTP/1.1 {status} x\r\ncontent-type: application/x-amz-json-1.0\r\nconnection: close\r\n"
                );
                write!(stream, "{head}content-length: {}\r\n\r\n{body}", body.len()).unwrap();
                let target = request.lines().find_map(|line| line.split_once("DynamoDB_20120810."));
                target.unwrap().1.trim().to_owned()
            };
            answers.iter().map(answer).collect()
        };
        (endpoint, std::thread::spawn(serve))
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_change_under_way_is_waited_for_or_is_ours() {
        for (answers, stopped) in [
            (&[(200, DISABLING)][..], Some(Stopped::Before)),
            (&[(200, ENABLED), (400, TOO_SOON), (200, DISABLING)], Some(Stopped::Before)),
            (&[(200, ENABLED), (400, TOO_SOON), (200, ENABLED)], None),
        ] {
            let (endpoint, server) = scripted(answers);
            let outcome = stop_forgetting(&local_client(&endpoint), "stele-events").await;
            assert_eq!(outcome.as_ref().ok().copied(), stopped, "{outcome:?}");
            assert!(outcome.err().is_none_or(|error| error.code() == Code::Unavailable));
            let asked = server.join().unwrap();
            let expected = ["DescribeTimeToLive", "UpdateTimeToLive", "DescribeTimeToLive"];
            assert_eq!(asked, expected[..answers.len()]);
        }
    }
}
