//! The control socket's side of commands. What is long and changes much (an import, forgetting, a rotation) goes on
//! when its client leaves; everything else ends with it.

use std::sync::Arc;

use handover_core::Code;
use handover_web::control::{Handler, Problem};
use serde_json::Value;
use tokio::sync::mpsc;

use crate::Node;
use crate::error::NodeError;
use crate::operations::{Command, Events, Operation, perform};

pub(crate) struct Commands(pub(crate) Arc<Node>);

#[async_trait::async_trait]
impl Handler for Commands {
    async fn handle(&self, request: Value, events: mpsc::Sender<Value>) -> Result<Value, Problem> {
        let command: Command = serde_json::from_value(request).map_err(|_| Problem {
            code: Code::UsageInvalid,
            detail: Some(
                "the running node does not know this command: it may be of another version".to_owned(),
            ),
        })?;
        let (node, events) = (Arc::clone(&self.0), Events::to(events));
        let goes_on = matches!(
            command.operation,
            Operation::Import { .. } | Operation::PatientForget { .. } | Operation::EpochRotate { .. }
        );
        let done = if goes_on {
            let work = tokio::spawn(async move { perform(&node, command, &events).await });
            work.await.unwrap_or(Err(NodeError::TaskEnded))
        } else {
            perform(&node, command, &events).await
        };
        done.map_err(|error| {
            tracing::info!(code = %error.code(), "a command was not done");
            error.problem()
        })
    }
}
