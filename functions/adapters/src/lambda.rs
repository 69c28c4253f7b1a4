//! Between Lambda's events and what handlers take: requests from API Gateway, messages from SQS, logs as JSON lines.
//!
//! It knows no handler and no route.

use crate::http::{Request, Response, problem};
use aws_lambda_events::encodings::Body;
use aws_lambda_events::event::apigw::{ApiGatewayV2httpRequest, ApiGatewayV2httpResponse};
use aws_lambda_events::event::sqs::{SqsBatchResponse, SqsEvent};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use futures_util::FutureExt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use stele::spill::Delivered;
use stele::time::Timestamp;
use stele::wire::escaped_bytes;
use stele::{Code, Error, Result};

/// Bytes of an answer as Lambda takes it: its 6 MB, less what stands around the body.
const RESPONSE_BYTES_MAX: usize = 6 * 1024 * 1024 - 64 * 1024;

/// Begins to log: JSON lines on standard output, at the level the function's configuration asks for.
pub fn start_logging() {
    let level = std::env::var("AWS_LAMBDA_LOG_LEVEL").ok().and_then(|level| level.parse().ok());
    let logging = tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(false)
        .with_max_level(level.unwrap_or(tracing::Level::INFO));
    // An error says that a log is kept already, which is all that is wanted.
    let _ = tracing::subscriber::set_global_default(logging.finish());
}

/// Answers a request from API Gateway (payload format 2.0). A panic costs the request it happens at.
pub async fn answer<F>(
    event: ApiGatewayV2httpRequest,
    handle: impl FnOnce(Request) -> F,
) -> ApiGatewayV2httpResponse
where
    F: Future<Output = Response>,
{
    let response = match request_from(event) {
        Ok(request) => {
            let handled = AssertUnwindSafe(async { handle(request).await }).catch_unwind().await;
            handled.unwrap_or_else(|_| {
                tracing::error!("answering a request panicked");
                problem(&Error::new(Code::Internal, "the request could not be answered"), "")
            })
        }
        Err(error) => problem(&error, ""),
    };
    response_from(response)
}

fn request_from(event: ApiGatewayV2httpRequest) -> Result<Request> {
    let bad = |what: &str| Error::new(Code::MalformedJson, format!("the request's {what} can't be read"));
    let path = encoded(event.raw_path.as_deref().unwrap_or("/"));
    let query = event.raw_query_string.as_deref().unwrap_or_default();
    let uri = if query.is_empty() { path } else { format!("{path}?{query}") };
    let body = match event.body {
        None => Bytes::new(),
        Some(body) if event.is_base64_encoded => STANDARD.decode(body).map_err(|_| bad("body"))?.into(),
        Some(body) => body.into(),
    };
    let mut request = Request::new(body);
    *request.method_mut() = event.request_context.http.method;
    *request.uri_mut() = uri.parse().map_err(|_| bad("path"))?;
    *request.headers_mut() = event.headers;
    Ok(request)
}

/// A path that API Gateway has decoded, as RFC 3986 §3.3 writes it again. What still looks encoded is left so.
fn encoded(path: &str) -> String {
    let bytes = path.as_bytes();
    let is_escape =
        |at: usize| bytes.get(at + 1..at + 3).is_some_and(|two| two.iter().all(u8::is_ascii_hexdigit));
    let mut out = String::with_capacity(path.len());
    for (at, b) in bytes.iter().enumerate() {
        match b {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' => out.push(*b as char),
            b'-' | b'.' | b'_' | b'~' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' => out.push(*b as char),
            b'*' | b'+' | b',' | b';' | b'=' | b':' | b'@' | b'/' => out.push(*b as char),
            b'%' if is_escape(at) => out.push('%'),
            b => out.push_str(&format!("%{b:02X}")),
        }
    }
    out
}

fn response_from(response: Response) -> ApiGatewayV2httpResponse {
    let (parts, body) = response.into_parts();
    let (body, is_base64_encoded) = match std::str::from_utf8(&body) {
        Ok(text) if escaped_bytes(text.as_bytes()) > RESPONSE_BYTES_MAX => {
            let error = Error::new(
                Code::ExportTooLarge,
                "the answer is larger than can be given at once: ask for less, by time or by `limit`",
            );
            return response_from(problem(&error, ""));
        }
        Ok(text) => (Body::Text(text.to_owned()), false),
        Err(_) => (Body::Text(STANDARD.encode(&body)), true),
    };
    let mut out = ApiGatewayV2httpResponse::default();
    out.status_code = i64::from(parts.status.as_u16());
    out.headers = parts.headers;
    out.body = Some(body);
    out.is_base64_encoded = is_base64_encoded;
    out
}

/// The messages of a batch from SQS.
pub fn messages_from(event: SqsEvent) -> Vec<Delivered> {
    let message = |message: aws_lambda_events::event::sqs::SqsMessage| {
        let sent = message.attributes.get("SentTimestamp").and_then(|ms| ms.parse().ok());
        Delivered {
            id: message.message_id.unwrap_or_default(),
            receipt: message.receipt_handle.unwrap_or_default(),
            sent_at: Timestamp::from_ms(sent.unwrap_or_default()),
            body: message.body.unwrap_or_default(),
        }
    };
    event.records.into_iter().map(message).collect()
}

/// Tells Lambda what of a batch has to come again, by sequence number or message id: one shape serves streams and
/// queues.
pub fn failures(failed: Vec<String>) -> SqsBatchResponse {
    let mut response = SqsBatchResponse::default();
    response.set_failures(failed);
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderValue, StatusCode};
    use serde_json::{Value, json};

    fn event(value: Value) -> ApiGatewayV2httpRequest {
        let mut whole = json!({
            "version": "2.0", "routeKey": "$default", "rawPath": "/v1/events", "rawQueryString": "a=1&b=%C3%A4",
            "headers": {"authorization": "Bearer k", "content-type": "application/json"},
            "requestContext": {"accountId": "1", "apiId": "a", "stage": "$default", "time": "x", "timeEpoch": 1,
                "http": {"method": "POST", "path": "/v1/events", "protocol": "HTTP/1.1", "sourceIp": "1.2.3.4"}},
            "isBase64Encoded": false,
        });
        whole.as_object_mut().unwrap().extend(value.as_object().unwrap().clone());
        serde_json::from_value(whole).unwrap()
    }

    #[tokio::test]
    async fn a_request_arrives_and_its_answer_goes_back() {
        for (body, encoded, arrives) in [("{}", false, &b"{}"[..]), ("H4sI/w==", true, b"\x1f\x8b\x08\xff")] {
            let event = event(json!({"body": body, "isBase64Encoded": encoded}));
            let answered = answer(event, |request| async move {
                assert_eq!(request.method(), "POST");
                assert_eq!(request.uri(), "/v1/events?a=1&b=%C3%A4");
                assert_eq!(request.headers()["authorization"], "Bearer k");
                assert_eq!(&request.body()[..], arrives);
                crate::http::json(StatusCode::CREATED, &json!({"ok": "ü"}))
            });
            let answered = serde_json::to_value(answered.await).unwrap();
            assert_eq!((&answered["statusCode"], &answered["isBase64Encoded"]), (&json!(201), &json!(false)));
            assert_eq!(
                (&answered["body"], &answered["headers"]["content-type"]),
                (&json!(r#"{"ok":"ü"}"#), &json!("application/json"))
            );
        }
    }

    #[test]
    fn a_decoded_path_is_a_path_again() {
        assert_eq!(encoded("/v1/events/no id"), "/v1/events/no%20id");
        assert_eq!(encoded("/v1/events/ü?#%"), "/v1/events/%C3%BC%3F%23%25");
        assert_eq!(encoded("/v1/events/evt_1:a%20b"), "/v1/events/evt_1:a%20b");
    }

    fn sample<T: serde::de::DeserializeOwned>(name: &str) -> T {
        let path = format!("{}/../../events/lambda/{name}.json", env!("CARGO_MANIFEST_DIR"));
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
    }

    #[tokio::test]
    async fn what_lambda_hands_over_is_read() {
        let answered = answer(sample("http"), |request| async move {
            assert_eq!((request.method().as_str(), request.uri().path()), ("POST", "/v1/events"));
            assert!(request.headers()["authorization"].to_str().unwrap().starts_with("Bearer stele_"));
            crate::http::answer(StatusCode::OK, "text/plain", request.into_body())
        });
        let body = serde_json::to_value(answered.await).unwrap()["body"].clone();
        assert!(body.as_str().unwrap().contains("invoice.deleted"), "{body}");
        let messages = messages_from(sample("spill"));
        assert_eq!(messages[0].sent_at, Timestamp::from_ms(1_777_645_920_123));
        assert!(messages[0].body.contains("api_key"));
    }

    #[tokio::test]
    async fn a_panic_and_a_torn_body_are_answers_too() {
        let event_with = |value| event(value);
        let panicked = answer(event_with(json!({})), |request| async move {
            assert!(request.body().len() > 99, "a panic");
            Response::default()
        });
        assert_eq!(panicked.await.status_code, 500);
        let torn = event_with(json!({"body": "!", "isBase64Encoded": true}));
        assert_eq!(answer(torn, |_| async { Response::default() }).await.status_code, 400);
    }

    #[test]
    fn an_answer_larger_than_lambda_takes_is_refused_in_words() {
        let mut response = Response::new(Bytes::from("\"".repeat(4 << 20)));
        response.headers_mut().insert("x", HeaderValue::from_static("y"));
        assert_eq!(response_from(response).status_code, 413);
        assert_eq!(response_from(Response::new(Bytes::from("x".repeat(5 << 20)))).status_code, 200);
        let binary = response_from(Response::new(Bytes::from_static(b"\xff")));
        assert!(binary.is_base64_encoded);
        let text = "a\"\\\n\u{1}ü";
        assert_eq!(escaped_bytes(text.as_bytes()), serde_json::to_string(text).unwrap().len() - 2);
    }

    #[test]
    fn messages_carry_what_is_the_same_at_every_delivery() {
        let event: SqsEvent = serde_json::from_value(json!({"Records": [{
            "messageId": "m1", "receiptHandle": "r1", "body": "b", "eventSource": "aws:sqs",
            "attributes": {"SentTimestamp": "1767225600123", "ApproximateReceiveCount": "2"},
        }]}))
        .unwrap();
        let sent_at = Timestamp::from_ms(1_767_225_600_123);
        let expected = Delivered { id: "m1".into(), receipt: "r1".into(), sent_at, body: "b".into() };
        assert_eq!(messages_from(event), [expected]);
        let told = serde_json::to_value(failures(vec!["m1".into()])).unwrap();
        assert_eq!(told, json!({"batchItemFailures": [{"itemIdentifier": "m1"}]}));
    }
}
