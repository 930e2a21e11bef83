//! Follows one node's status: `GET /v1/status?watch`, held open.
//!
//! Spoken as HTTP/1.0, in which the answer is simply everything until the end of the connection.

use std::net::SocketAddr;
use std::time::Duration;

use crds::node_api::{NodeStatus, WATCH_SILENCE_SECONDS};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time;

/// Pause before the first attempt to connect again; doubled up to the last.
const RETRY_FIRST: Duration = Duration::from_millis(20);
const RETRY_LAST: Duration = Duration::from_millis(320);
/// Longest line that is read, in bytes.
const LINE_BYTES_MAX: usize = 1 << 20;

/// Reports every status until it is aborted; `None` where the node cannot be heard.
pub(crate) async fn follow(address: SocketAddr, mut report: impl FnMut(Option<NodeStatus>)) {
    let mut pause = RETRY_FIRST;
    loop {
        let mut heard = false;
        // Why it ended does not matter: a process that starts, dies or hangs up is asked again.
        let _ = listen(address, |status| {
            heard = true;
            report(Some(status));
        })
        .await;
        if heard {
            report(None);
            pause = RETRY_FIRST;
        }
        time::sleep(pause).await;
        pause = (pause * 2).min(RETRY_LAST);
    }
}

async fn listen(address: SocketAddr, mut report: impl FnMut(NodeStatus)) -> std::io::Result<()> {
    let silence = Duration::from_secs(WATCH_SILENCE_SECONDS);
    let mut stream = time::timeout(silence, TcpStream::connect(address)).await??;
    let request =
        format!("GET /v1/status?watch HTTP/1.0\r\nHost: {address}\r\nAccept: application/x-ndjson\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut lines = BufReader::new(stream);
    let mut line = Vec::new();
    let mut in_body = false;
    loop {
        line.clear();
        // Silence is reported by the supervisor's own knowledge (a paused process) or by a newer writer; a
        // node that hangs keeps its last status, as in Kubernetes.
        if read_line(&mut lines, &mut line).await? == 0 {
            return Ok(());
        }
        let text = line.trim_ascii();
        if in_body {
            if let Ok(status) = serde_json::from_slice(text) {
                report(status);
            }
        } else if line.starts_with(b"HTTP/1.") && line.get(9..12) != Some(b"200".as_slice()) {
            return Ok(());
        } else if text.is_empty() {
            in_body = true;
        }
    }
}

async fn read_line(reader: &mut BufReader<TcpStream>, line: &mut Vec<u8>) -> std::io::Result<usize> {
    loop {
        let available = reader.fill_buf().await?;
        if available.is_empty() {
            return Ok(line.len());
        }
        let (taken, complete) = match available.iter().position(|byte| *byte == b'\n') {
            Some(end) => (end + 1, true),
            None => (available.len(), false),
        };
        line.extend_from_slice(&available[..taken]);
        reader.consume(taken);
        if complete || line.len() > LINE_BYTES_MAX {
            return Ok(line.len());
        }
    }
}
