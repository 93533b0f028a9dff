//! A file as an answer: whole, or one range of it (RFC 9110, section 14).

use std::io::SeekFrom;
use std::path::Path;
use std::time::UNIX_EPOCH;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio_util::io::ReaderStream;

use crate::problem::{ApiError, Code};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Whole,
    /// First byte and number of bytes.
    Part(u64, u64),
    Outside,
}

/// Several ranges, other units and nonsense are ignored, as the RFC allows: the answer is then the whole.
fn parse_range(value: Option<&str>, len: u64) -> Asked {
    let spec = value.and_then(|v| v.trim().strip_prefix("bytes="));
    let Some((first, last)) = spec
        .filter(|s| !s.contains(','))
        .and_then(|s| s.trim().split_once('-'))
    else {
        return Asked::Whole;
    };
    match (first.parse::<u64>(), last.parse::<u64>()) {
        (Ok(first), Ok(last)) if first > last => Asked::Whole,
        (Ok(first), _) if first >= len && (last.is_empty() || last.parse::<u64>().is_ok()) => {
            Asked::Outside
        }
        (Ok(first), Ok(last)) => Asked::Part(first, last.min(len - 1) - first + 1),
        (Ok(first), Err(_)) if last.is_empty() => Asked::Part(first, len - first),
        (Err(_), Ok(0)) if first.is_empty() => Asked::Outside,
        (Err(_), Ok(_)) if first.is_empty() && len == 0 => Asked::Outside,
        (Err(_), Ok(n)) if first.is_empty() => Asked::Part(len - n.min(len), n.min(len)),
        _ => Asked::Whole,
    }
}

fn number(header: HeaderName, text: &str) -> Result<(HeaderName, HeaderValue), ApiError> {
    Ok((
        header,
        HeaderValue::from_str(text).map_err(ApiError::internal)?,
    ))
}

/// The open file, or the range of it that the request asks for.
pub(crate) async fn respond(mut file: File, range: Option<&str>) -> Result<Response, ApiError> {
    let failed = |e: &std::io::Error| ApiError::io("can't read a file", e);
    let len = file.metadata().await.map_err(|e| failed(&e))?.len();
    let (status, first, count) = match parse_range(range, len) {
        Asked::Whole => (StatusCode::OK, 0, len),
        Asked::Part(first, count) => (StatusCode::PARTIAL_CONTENT, first, count),
        Asked::Outside => return Err(outside(len)?),
    };
    if first > 0 {
        file.seek(SeekFrom::Start(first))
            .await
            .map_err(|e| failed(&e))?;
    }
    let mut response = (
        status,
        Body::from_stream(ReaderStream::new(file.take(count))),
    )
        .into_response();
    let headers = response.headers_mut();
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.extend([number(header::CONTENT_LENGTH, &count.to_string())?]);
    if status == StatusCode::PARTIAL_CONTENT {
        let range = format!("bytes {first}-{}/{len}", first + count - 1);
        headers.extend([number(header::CONTENT_RANGE, &range)?]);
    }
    Ok(response)
}

fn outside(len: u64) -> Result<ApiError, ApiError> {
    let (name, value) = number(header::CONTENT_RANGE, &format!("bytes */{len}"))?;
    Ok(ApiError::new(Code::BadRange, format!("the file has {len} bytes")).with_header(name, value))
}

/// The request's range.
pub(crate) fn range(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::RANGE)?.to_str().ok()
}

/// The file at `path`, if it is a plain one: opening a FIFO would hang.
pub(crate) async fn open(path: &Path) -> Option<(File, std::fs::Metadata)> {
    let metadata = tokio::fs::symlink_metadata(path)
        .await
        .ok()
        .filter(std::fs::Metadata::is_file)?;
    Some((File::open(path).await.ok()?, metadata))
}

/// A result file with its validators. Nothing that it contains may act as a page of this server.
pub(crate) async fn respond_result(
    path: &Path,
    declared: Option<&str>,
    request: &HeaderMap,
) -> Result<Option<Response>, ApiError> {
    let Some((file, metadata)) = open(path).await else {
        return Ok(None);
    };
    let tag = etag(&metadata);
    let text = |name: HeaderName| request.get(name).and_then(|v| v.to_str().ok());
    if text(header::IF_NONE_MATCH).is_some_and(|tags| matches(tags, &tag)) {
        return Ok(Some(
            (StatusCode::NOT_MODIFIED, [(header::ETAG, tag)]).into_response(),
        ));
    }
    let same = text(header::IF_RANGE).is_none_or(|wanted| wanted == tag);
    let mut response = respond(file, range(request).filter(|_| same)).await?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let (kind, disposition) = kind_of(&name);
    let quoted = percent_encoding::utf8_percent_encode(&name, percent_encoding::NON_ALPHANUMERIC);
    response.headers_mut().extend([
        number(header::ETAG, &tag)?,
        number(
            header::CONTENT_TYPE,
            declared.filter(|kind| is_harmless(kind)).unwrap_or(kind),
        )?,
        number(
            header::CONTENT_DISPOSITION,
            &format!("{disposition}; filename*=UTF-8''{quoted}"),
        )?,
        (
            header::CONTENT_SECURITY_POLICY,
            HeaderValue::from_static("default-src 'none'; sandbox"),
        ),
    ]);
    Ok(Some(response))
}

fn matches(tags: &str, tag: &str) -> bool {
    tags.trim() == "*"
        || tags
            .split(',')
            .any(|one| one.trim().trim_start_matches("W/") == tag)
}

fn etag(metadata: &std::fs::Metadata) -> String {
    let written = metadata
        .modified()
        .ok()
        .and_then(|t| t.duration_since(UNIX_EPOCH).ok());
    format!(
        "\"{:x}-{:x}\"",
        metadata.len(),
        written.unwrap_or_default().as_nanos()
    )
}

/// The media type that a file's name tells.
pub(crate) fn media_type(path: &str) -> &'static str {
    kind_of(path).0
}

/// A type that the tools file declares is believed, unless a browser would run what is in it.
fn is_harmless(kind: &str) -> bool {
    let kind = kind.to_ascii_lowercase();
    let is_sound = kind.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    is_sound
        && !["html", "xml", "svg", "script"]
            .iter()
            .any(|word| kind.contains(word))
}

/// Content type, and whether a browser may show it. What could carry scripts is shown as text or not at all.
fn kind_of(name: &str) -> (&'static str, &'static str) {
    let extension = name.rsplit_once('.').map(|(_, e)| e.to_ascii_lowercase());
    match extension.as_deref().unwrap_or_default() {
        "tsv" => ("text/tab-separated-values; charset=utf-8", "inline"),
        "csv" => ("text/csv; charset=utf-8", "inline"),
        "json" => ("application/json", "inline"),
        "png" => ("image/png", "inline"),
        "jpg" | "jpeg" => ("image/jpeg", "inline"),
        "txt" | "log" | "fa" | "fasta" | "faa" | "fna" | "fq" | "fastq" | "gff" | "pdb" | "sto"
        | "nwk" | "md" | "html" | "htm" | "xhtml" | "xml" | "svg" | "out" | "err" => {
            ("text/plain; charset=utf-8", "inline")
        }
        _ => ("application/octet-stream", "attachment"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_the_rfc_says() {
        let cases = [
            ("bytes=0-4", Asked::Part(0, 5)),
            ("bytes=3-", Asked::Part(3, 7)),
            ("bytes=-4", Asked::Part(6, 4)),
            ("bytes=-99", Asked::Part(0, 10)),
            ("bytes=8-99", Asked::Part(8, 2)),
            ("bytes=10-", Asked::Outside),
            ("bytes=10-12", Asked::Outside),
            ("bytes=-0", Asked::Outside),
            ("bytes=5-2", Asked::Whole),
            ("bytes=0-1,3-4", Asked::Whole),
            ("lines=0-1", Asked::Whole),
            ("bytes=a-b", Asked::Whole),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_range(Some(text), 10), expected, "{text}");
        }
        assert_eq!(parse_range(None, 10), Asked::Whole);
        assert_eq!(parse_range(Some("bytes=0-"), 0), Asked::Outside);
        assert_eq!(parse_range(Some("bytes=-1"), 0), Asked::Outside);
    }

    #[test]
    fn nothing_is_ever_served_as_a_page() {
        for name in [
            "a.html", "A.HTM", "x.svg", "x.xml", "x.pdf", "noext", "x.js",
        ] {
            assert!(!kind_of(name).0.contains("html"), "{name}");
        }
        assert!(matches("\"a\", W/\"b\"", "\"b\"") && !matches("\"a\"", "\"b\""));
    }
}
