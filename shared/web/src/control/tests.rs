use std::{os::unix::fs::PermissionsExt, sync::Arc};

use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    sync::Notify,
};
use tokio_util::sync::CancellationToken;

use super::*;

/// Counts down in events; can be told to wait for ever and says when it is dropped.
struct Countdown {
    started: Arc<Notify>,
    dropped: Arc<Notify>,
}

struct OnDrop(Arc<Notify>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

#[async_trait::async_trait]
impl Handler for Countdown {
    async fn handle(&self, request: Value, events: mpsc::Sender<Value>) -> Result<Value, Problem> {
        match request["do"].as_str() {
            Some("count") => {
                for left in (0..200).rev() {
                    events.send(json!({ "left": left })).await.unwrap();
                }
                Ok(json!({ "counted": 200 }))
            }
            Some("wait") => {
                let _on_drop = OnDrop(Arc::clone(&self.dropped));
                self.started.notify_one();
                std::future::pending().await
            }
            _ => Err(Problem { code: Code::UsageInvalid, detail: Some("no such request".to_owned()) }),
        }
    }
}

struct Running {
    _folder: tempfile::TempDir,
    path: PathBuf,
    shutdown: CancellationToken,
    join: tokio::task::JoinHandle<()>,
    handler: Arc<Countdown>,
}

async fn running() -> Running {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("control");
    let handler = Arc::new(Countdown { started: Arc::default(), dropped: Arc::default() });
    let shutdown = CancellationToken::new();
    let join = serve(path.clone(), handler.clone(), shutdown.clone()).await.unwrap();
    Running { _folder: folder, path, shutdown, join, handler }
}

#[tokio::test]
async fn a_round_trip_with_events_in_order() {
    let running = running().await;
    let mode = std::fs::metadata(&running.path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let mut left = Vec::new();
    let result =
        call(&running.path, &json!({"do": "count"}), |event| left.push(event["left"].as_u64().unwrap()))
            .await
            .unwrap();
    assert_eq!(result, json!({"counted": 200}));
    assert_eq!(left, (0..200).rev().collect::<Vec<_>>());

    let refused = call(&running.path, &json!({"do": "juggle"}), |_| {}).await.unwrap_err();
    assert_eq!(refused.code(), Code::UsageInvalid);
    assert!(
        matches!(refused, ControlError::Refused(Problem { detail: Some(detail), .. }) if detail == "no such request")
    );

    running.shutdown.cancel();
    running.join.await.unwrap();
    assert!(!running.path.exists());
    let absent = call(&running.path, &json!({}), |_| {}).await.unwrap_err();
    assert!(matches!(absent, ControlError::NotRunning { .. }));
}

#[tokio::test]
async fn a_client_that_goes_away_cancels_its_request() {
    let running = running().await;
    let request = json!({"do": "wait"});
    let waiting = call(&running.path, &request, |_| {});
    tokio::select! {
        outcome = waiting => panic!("answered: {outcome:?}"),
        () = running.handler.started.notified() => {}
    }
    running.handler.dropped.notified().await;
}

#[tokio::test]
async fn bad_lines_are_refused() {
    let running = running().await;
    let long = vec![b'x'; MAX_REQUEST_BYTES];
    for (line, code) in [(&b"no json\n"[..], "malformed"), (&long, "too-large")] {
        let mut stream = UnixStream::connect(&running.path).await.unwrap();
        stream.write_all(line).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(answer["problem"]["code"], code);
    }
    let large = Value::String("x".repeat(MAX_REQUEST_BYTES));
    assert!(matches!(call(&running.path, &large, |_| {}).await, Err(ControlError::TooLarge)));
}

#[tokio::test]
async fn only_a_dead_socket_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("control");
    let handler = Arc::new(Countdown { started: Arc::default(), dropped: Arc::default() });

    std::fs::write(&path, "precious").unwrap();
    let in_the_way = serve(path.clone(), handler.clone(), CancellationToken::new()).await.unwrap_err();
    assert!(matches!(in_the_way, ControlError::NotASocket { .. }));
    std::fs::remove_file(&path).unwrap();

    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let shutdown = CancellationToken::new();
    let join = serve(path.clone(), handler.clone(), shutdown.clone()).await.unwrap();
    let second = serve(path.clone(), handler, CancellationToken::new()).await.unwrap_err();
    assert!(matches!(second, ControlError::AlreadyRunning { .. }));
    shutdown.cancel();
    join.await.unwrap();
}
