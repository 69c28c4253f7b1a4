//! Reading bodies: media type, encoding, size.

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use std::io::Read;
use stele::error::{Code, Error, Result};

/// How the events of a body are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Media {
    /// One JSON text.
    Json,
    /// A JSON text per line.
    NdJson,
}

/// The media type; a body without one is taken for JSON.
pub(crate) fn media(headers: &HeaderMap) -> Result<Media> {
    let Some(value) = headers.get(CONTENT_TYPE) else { return Ok(Media::Json) };
    let text = value.to_str().unwrap_or_default();
    let essence = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match essence.as_str() {
        // The last is what curl says of `-d`: a JSON text is one whatever its sender calls it.
        "application/json" | "text/json" | "" | "application/x-www-form-urlencoded" => Ok(Media::Json),
        // How a packed body gets through API Gateway unharmed: it takes JSON for text.
        "application/gzip" | "application/octet-stream" => Ok(Media::Json),
        "application/x-ndjson" | "application/ndjson" | "application/jsonl" => Ok(Media::NdJson),
        other if other.starts_with("application/") && other.ends_with("+json") => Ok(Media::Json),
        other => Err(Error::new(
            Code::UnsupportedMediaType,
            format!(
                "`{other}` is not read here: send `application/json`, or `application/x-ndjson` for a batch"
            ),
        )),
    }
}

/// The body, unpacked, at most `bytes_max` long; a longer one is refused with `too_large` before it is unpacked
/// further.
pub(crate) fn unpacked(headers: &HeaderMap, body: Bytes, bytes_max: usize, too_large: Code) -> Result<Bytes> {
    let refuse = || Error::new(too_large, format!("the body is longer than {bytes_max} bytes"));
    let encoding =
        headers.get(CONTENT_ENCODING).map(|v| v.to_str().unwrap_or("?").trim().to_ascii_lowercase());
    match encoding.as_deref() {
        None | Some("" | "identity") if body.len() > bytes_max => Err(refuse()),
        None | Some("" | "identity") => Ok(body),
        Some("gzip" | "x-gzip") => {
            let mut out = Vec::new();
            // One byte more than allowed tells a body that is too long from one that just fits.
            let mut limited = MultiGzDecoder::new(body.as_ref()).take(bytes_max as u64 + 1);
            limited.read_to_end(&mut out).map_err(|e| {
                let detail = "the body says it is gzip, but it does not unpack; API Gateway spoils packed bodies \
                              sent as `application/json`: send `application/gzip` or `application/x-ndjson`";
                Error::new(Code::MalformedJson, detail).with_source(e)
            })?;
            if out.len() > bytes_max { Err(refuse()) } else { Ok(out.into()) }
        }
        Some(other) => Err(Error::new(
            Code::UnsupportedMediaType,
            format!("the content encoding `{other}` is not read here: send `gzip` or none"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, write::GzEncoder};
    use std::io::Write;

    fn gzip(bytes: &[u8]) -> Bytes {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap().into()
    }

    #[test]
    fn a_small_gzip_of_a_huge_body_is_refused_without_unpacking_it_all() {
        let headers = HeaderMap::from_iter([(CONTENT_ENCODING, "gzip".parse().unwrap())]);
        let bomb = gzip(&vec![b' '; 10 << 20]);
        assert!(bomb.len() < 100_000);
        let refused = unpacked(&headers, bomb, 1 << 20, Code::BatchTooLarge).unwrap_err();
        assert_eq!(refused.code(), Code::BatchTooLarge);
        assert_eq!(unpacked(&headers, gzip(b"{}"), 2, Code::BatchTooLarge).unwrap(), "{}");
        let torn = gzip(b"{}").slice(..8);
        assert_eq!(unpacked(&headers, torn, 9, Code::BatchTooLarge).unwrap_err().code(), Code::MalformedJson);
    }
}
