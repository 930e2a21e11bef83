//! The operator's side of a node's HTTP interface ([`crds::node_api`]).
//!
//! Requests are HTTP/1.0, so that an answer is its lines until the connection ends, without chunks.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use crds::node_api::{HTTP_PORT, NodeStatus, ResignRequest, WATCH_SILENCE_SECONDS};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Longest time for a connection, and for a short answer.
const CONNECT: Duration = Duration::from_secs(2);
const SILENCE: Duration = Duration::from_secs(WATCH_SILENCE_SECONDS);
/// Longest line or answer that is read, in bytes.
const ANSWER_BYTES_MAX: u64 = 1 << 20;

#[derive(Debug, thiserror::Error)]
pub(crate) enum NodeError {
    #[error("failed to reach {address}")]
    Connect {
        address: IpAddr,
        #[source]
        source: io::Error,
    },
    #[error("no answer in time")]
    Silent,
    #[error("the connection broke")]
    Broken(#[source] io::Error),
    #[error("the node answered {status}: {body}")]
    Refused { status: u16, body: String },
    #[error("the answer is no HTTP")]
    NotHttp,
    #[error("the answer is no status of a node")]
    NotStatus(#[source] serde_json::Error),
}

/// A stream of a node's status.
pub(crate) struct StatusStream {
    lines: Lines<BufReader<tokio::io::Take<TcpStream>>>,
}

impl StatusStream {
    /// Opens it.
    ///
    /// # Errors
    ///
    /// If the node cannot be reached or refuses.
    pub(crate) async fn open(address: IpAddr) -> Result<StatusStream, NodeError> {
        let request = format!(
            "GET /v1/status?watch HTTP/1.0\r\nHost: {address}\r\nAccept: application/x-ndjson\r\n\r\n"
        );
        let mut reader = send(address, request.as_bytes()).await?;
        let status = timeout(CONNECT, read_head(&mut reader)).await.map_err(|_| NodeError::Silent)??;
        if status != 200 {
            return Err(refused(status, reader).await);
        }
        Ok(StatusStream { lines: reader.lines() })
    }

    /// The next status; `None` when the node ended the stream.
    ///
    /// # Errors
    ///
    /// If the connection broke, was silent for too long, or carried something else.
    pub(crate) async fn next(&mut self) -> Result<Option<NodeStatus>, NodeError> {
        loop {
            let line = timeout(SILENCE, self.lines.next_line()).await.map_err(|_| NodeError::Silent)?;
            // The limit is on a line, not on the whole stream.
            self.lines.get_mut().get_mut().set_limit(ANSWER_BYTES_MAX);
            match line.map_err(NodeError::Broken)? {
                None => return Ok(None),
                Some(line) if line.trim().is_empty() => {}
                Some(line) => return serde_json::from_str(&line).map(Some).map_err(NodeError::NotStatus),
            }
        }
    }
}

/// Asks the writer to hand over.
///
/// # Errors
///
/// If it cannot be reached or refuses.
pub(crate) async fn resign(address: IpAddr, to: Option<&str>, authorization: &str) -> Result<(), NodeError> {
    let request = ResignRequest { to: to.map(str::to_owned) };
    let body = serde_json::to_string(&request).expect("plain data serialises");
    let length = body.len();
    let request = format!(
        "POST /v1/resign HTTP/1.0\r\nHost: {address}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nAuthorization: {authorization}\r\n\r\n{body}"
    );
    let mut reader = send(address, request.as_bytes()).await?;
    match timeout(CONNECT, read_head(&mut reader)).await.map_err(|_| NodeError::Silent)?? {
        200..=299 => Ok(()),
        status => Err(refused(status, reader).await),
    }
}

async fn send(address: IpAddr, request: &[u8]) -> Result<BufReader<tokio::io::Take<TcpStream>>, NodeError> {
    let connect = TcpStream::connect((address, HTTP_PORT));
    let connected = timeout(CONNECT, connect).await.map_err(|_| NodeError::Silent)?;
    let mut stream = connected.map_err(|source| NodeError::Connect { address, source })?;
    stream.write_all(request).await.map_err(NodeError::Broken)?;
    Ok(BufReader::new(stream.take(ANSWER_BYTES_MAX)))
}

/// Reads the status line and the headers.
async fn read_head(reader: &mut BufReader<tokio::io::Take<TcpStream>>) -> Result<u16, NodeError> {
    let mut line = String::new();
    reader.read_line(&mut line).await.map_err(NodeError::Broken)?;
    let status = line.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or(NodeError::NotHttp)?;
    loop {
        line.clear();
        reader.read_line(&mut line).await.map_err(NodeError::Broken)?;
        if line.trim_end().is_empty() {
            return Ok(status);
        }
    }
}

async fn refused(status: u16, mut reader: BufReader<tokio::io::Take<TcpStream>>) -> NodeError {
    let mut body = String::new();
    // The body only says more about a failure that is reported anyway.
    let _ = timeout(CONNECT, reader.read_to_string(&mut body)).await;
    let body: String = body.trim().chars().take(200).collect();
    NodeError::Refused { status, body }
}

/// The value of an `Authorization` header (RFC 7617).
pub(crate) fn basic_authorization(user: &[u8], password: &[u8]) -> String {
    let credentials = [user, b":", password].concat();
    format!("Basic {}", base64(&credentials))
}

/// Base 64 with padding (RFC 4648).
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let group = chunk.iter().fold(0_u32, |group, byte| group << 8 | u32::from(*byte));
        let group = group << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let index = (group >> (18 - 6 * place)) & 63;
            text.push(if place <= chunk.len() { char::from(ALPHABET[index as usize]) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_matches_the_examples_of_rfc_4648() {
        let examples = [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")];
        for (bytes, text) in examples {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
        assert_eq!(basic_authorization(b"Aladdin", b"open sesame"), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
    }
}
