//! The local stand-in for API Gateway: HTTP/1.1 on the loopback, whole bodies in, whole answers out; but files as they are
//! read.

use bytes::Bytes;
use http_body_util::{BodyExt, Either, Full, Limited};
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use std::convert::Infallible;
use std::future::Future;
use std::io::{self, Seek, SeekFrom};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use stele::error::{Code, Error};
use stele::limits;
use stele::routes::{Function, match_route};
use stele_adapters::http::{FileBody, problem};
use stele_ingest::Ingest;
use stele_query::Query;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::TcpListener;

/// How long a client may take to send its headers.
const HEADERS_WITHIN: Duration = Duration::from_secs(15);
/// How long requests under way may take once the process is told to stop.
const FINISH_WITHIN: Duration = Duration::from_secs(10);
/// Longer bodies are not read to their end; handlers tell the exact limits.
const BODY_BYTES_MAX: usize = limits::BATCH_BYTES_MAX + 1024;

/// Bytes of a file read and sent at once.
const FILE_PART_BYTES: usize = 64 * 1024;

/// The functions behind the listener.
pub(crate) struct Functions {
    pub(crate) ingest: Ingest,
    pub(crate) query: Query,
}

/// Whoever answers requests with whole bodies.
pub trait Answers: Send + Sync + 'static {
    /// Answers one.
    fn answer(&self, request: http::Request<Bytes>) -> impl Future<Output = http::Response<Bytes>> + Send;
}

impl Answers for Functions {
    async fn answer(&self, request: http::Request<Bytes>) -> http::Response<Bytes> {
        let ingests = match_route(request.method(), request.uri().path())
            .is_ok_and(|(route, _)| route.function == Function::Ingest);
        if ingests { self.ingest.handle(request).await } else { self.query.handle(request).await }
    }
}

/// An answer's body on its way out.
type Body = Either<Full<Bytes>, FileReader>;

/// A part of a file, read as it is sent.
struct FileReader {
    file: tokio::fs::File,
    buffer: Vec<u8>,
    left: u64,
}

impl FileReader {
    async fn open(part: &FileBody) -> io::Result<FileReader> {
        let FileBody { path, range } = part.clone();
        let opened = tokio::task::spawn_blocking(move || {
            let mut file = std::fs::File::open(path)?;
            file.seek(SeekFrom::Start(range.start))?;
            Ok(file)
        });
        let file = tokio::fs::File::from_std(opened.await.map_err(io::Error::other).flatten()?);
        Ok(FileReader { file, buffer: vec![0; FILE_PART_BYTES], left: part.range.end - part.range.start })
    }
}

impl hyper::body::Body for FileReader {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, ctx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = &mut *self;
        if this.left == 0 {
            return Poll::Ready(None);
        }
        let most = usize::try_from(this.left).unwrap_or(usize::MAX).min(FILE_PART_BYTES);
        let mut read = ReadBuf::new(&mut this.buffer[..most]);
        match Pin::new(&mut this.file).poll_read(ctx, &mut read) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(e)) => Poll::Ready(Some(Err(e))),
            Poll::Ready(Ok(())) if read.filled().is_empty() => {
                Poll::Ready(Some(Err(io::ErrorKind::UnexpectedEof.into())))
            }
            Poll::Ready(Ok(())) => {
                let bytes = Bytes::copy_from_slice(read.filled());
                this.left -= bytes.len() as u64;
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

/// The answer with its body, which may be a part of a file.
async fn with_body(mut response: http::Response<Bytes>) -> hyper::Response<Body> {
    let Some(part) = response.extensions_mut().remove::<FileBody>() else {
        return response.map(|whole| Either::Left(Full::new(whole)));
    };
    match FileReader::open(&part).await {
        Ok(reader) => response.map(|_| Either::Right(reader)),
        Err(error) => problem(&Error::unavailable("reading an export").with_source(error), "")
            .map(|whole| Either::Left(Full::new(whole))),
    }
}

async fn whole<A: Answers>(answers: &A, request: hyper::Request<Incoming>) -> hyper::Response<Body> {
    let (parts, body) = request.into_parts();
    let response = match Limited::new(body, BODY_BYTES_MAX).collect().await {
        Ok(body) => answers.answer(http::Request::from_parts(parts, body.to_bytes())).await,
        Err(error) if error.is::<http_body_util::LengthLimitError>() => problem(
            &Error::new(
                Code::BatchTooLarge,
                format!("the body is longer than {} bytes", limits::BATCH_BYTES_MAX),
            ),
            "",
        ),
        Err(error) => problem(
            &Error::new(Code::MalformedJson, "the body ended before it was complete").with_source(error),
            "",
        ),
    };
    with_body(response).await
}

/// Serves until told to stop, then lets the requests under way finish.
pub async fn serve<A: Answers>(listener: TcpListener, functions: Arc<A>, stop: impl Future<Output = ()>) {
    let graceful = GracefulShutdown::new();
    let mut stop = std::pin::pin!(stop);
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Out of file descriptors, most likely: a moment later there may be some.
                    tracing::warn!(%error, "a connection was not accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            },
            () = &mut stop => break,
        };
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY was not set");
        }
        let functions = functions.clone();
        let service = service_fn(move |request| {
            let functions = functions.clone();
            async move { Ok::<_, Infallible>(whole(&*functions, request).await) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADERS_WITHIN)
            .serve_connection(TokioIo::new(stream), service);
        let watched = graceful.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = watched.await {
                tracing::debug!(%error, "a connection ended early");
            }
        });
    }
    drop(listener);
    let _finished_or_given_up = tokio::time::timeout(FINISH_WITHIN, graceful.shutdown()).await;
}
