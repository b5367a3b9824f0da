//! One question over HTTP, as little of it as is needed here.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use anyhow::{Context as _, Result, ensure};

/// It takes anybody who says who he is.
const WHO: &str =
    "AWS4-HMAC-SHA256 Credential=tester/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=00";

/// What was answered.
pub(crate) fn ask(to: SocketAddr, method: &str, path: &str, content: &[u8]) -> Result<Vec<u8>> {
    let mut stream = TcpStream::connect(to)?;
    let length = content.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: {to}\r\nAuthorization: {WHO}\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n"
    )?;
    stream.write_all(content)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let head = answer.windows(4).position(|at| at == b"\r\n\r\n").context("no answer")?;
    let (head, content) = answer.split_at(head);
    let head = String::from_utf8_lossy(head);
    let status = head.split_whitespace().nth(1).unwrap_or_default();
    ensure!(status.starts_with('2'), "{method} {path}: {head}");
    Ok(content.get(4..).unwrap_or_default().to_vec())
}
