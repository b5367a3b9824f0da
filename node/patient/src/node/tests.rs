use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};

use rustls::pki_types::PrivateKeyDer;

use super::*;
use crate::testkit::World;

/// What a request was: method and path, media type, body.
type Asked = (String, String, Vec<u8>);
/// What is answered: status line, media type, body.
type Answered = (&'static str, &'static str, Vec<u8>);

/// A TLS server that answers one request on each connection; its URL and certificate.
fn serve(answer: impl Fn(Asked) -> Answered + Send + 'static) -> (String, String) {
    let mut parameters = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    parameters.is_ca = rcgen::IsCa::ExplicitNoCa;
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = parameters.self_signed(&key).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let private = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], private)
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind(("localhost", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let connection = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            // A client that goes away is a part of the tests.
            drop(one(rustls::StreamOwned::new(connection, stream.unwrap()), &answer));
        }
    });
    (format!("https://localhost:{port}/"), certificate.pem())
}

fn one(
    stream: rustls::StreamOwned<rustls::ServerConnection, TcpStream>,
    answer: &impl Fn(Asked) -> Answered,
) -> io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let (mut media, mut length) = (String::new(), 0);
    loop {
        let mut header = String::new();
        reader.read_line(&mut header)?;
        match header.trim_end().to_ascii_lowercase().split_once(": ") {
            None => break,
            Some(("content-type", value)) => media = value.to_owned(),
            Some(("content-length", value)) => length = value.parse().unwrap(),
            Some(_) => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let words = line.trim_end().trim_end_matches(" HTTP/1.1").to_owned();
    let (status, media, body) = answer((words, media, body));
    let mut stream = reader.into_inner();
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: {media}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(&body)?;
    stream.conn.send_close_notify();
    stream.flush()
}

#[test]
fn speaks_with_a_node() {
    let info = World::new().info(1);
    let encoded = codec::encode(&info);
    let (url, certificate) = serve(move |(words, media, body)| match words.as_str() {
        "GET /patient/v1/hospital" => ("200 OK", CBOR_MEDIA_TYPE, encoded.clone()),
        "POST /patient/v1/artefact" if media == CBOR_MEDIA_TYPE && body == b"artefact" => {
            ("200 OK", "text/plain", Vec::new())
        }
        "POST /patient/v1/inbox" => ("200 OK", CBOR_MEDIA_TYPE, vec![0; MAX_ANSWER_BYTES + 1]),
        "POST /patient/v1/locate" => ("302 Found", "text/html", Vec::new()),
        _ => (
            "403 Forbidden",
            "application/problem+json",
            br#"{"type":"urn:handover:problem:link-code-wrong"}"#.to_vec(),
        ),
    });
    let client = NodeClient::new(&url, &certificate).unwrap();
    assert_eq!(client.hospital().unwrap(), info);
    client.artefact(b"artefact").unwrap();
    assert!(matches!(client.link(b"link"), Err(WalletError::Problem(Code::LinkCodeWrong))));
    assert!(matches!(client.locate(b"ask"), Err(WalletError::Answer { status: 302 })));
    assert!(matches!(client.inbox(b"ask"), Err(WalletError::AnswerTooLarge)));
}

#[test]
fn only_the_trusted_certificate_will_do() {
    let (url, _) = serve(|_| ("200 OK", CBOR_MEDIA_TYPE, Vec::new()));
    let (_, other) = serve(|_| ("200 OK", CBOR_MEDIA_TYPE, Vec::new()));
    let client = NodeClient::new(&url, &other).unwrap();
    let refused = client.artefact(b"artefact").unwrap_err();
    assert!(matches!(refused, WalletError::Untrusted), "{refused:?}");
}

#[test]
fn a_node_that_is_not_there_is_unreachable() {
    let (_, certificate) = serve(|_| ("200 OK", CBOR_MEDIA_TYPE, Vec::new()));
    // Bound, and closed again: nobody listens there.
    let free = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap().local_addr().unwrap();
    let client = NodeClient::new(&format!("https://{free}"), &certificate).unwrap();
    assert!(matches!(client.hospital(), Err(WalletError::Unreachable)));
}

#[test]
fn problems_become_codes() {
    let document = br#"{"type":"urn:handover:problem:link-code-wrong","title":"x","status":403}"#;
    for (status, document, code) in [
        (403, document.as_slice(), Code::LinkCodeWrong),
        (404, b"{\"type\":\"about:blank\"}", Code::Malformed),
        (503, b"", Code::Busy),
        (502, b"<html>", Code::Unreachable),
    ] {
        assert_eq!(problem(status, document).code(), code);
    }
}

#[test]
fn only_https_and_real_certificates() {
    assert!(matches!(NodeClient::new("http://one", ""), Err(WalletError::Endpoint(_))));
    assert!(matches!(NodeClient::new("https://one", "nothing"), Err(WalletError::Endpoint(_))));
}
