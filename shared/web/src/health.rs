//! How the process is: each component says for itself, `GET /health` says it to load balancers and operators.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use handover_core::Code;
use warp::{
    Filter,
    http::{HeaderValue, StatusCode, header},
    reply::Response,
};

use crate::Routes;

/// What the components last said of themselves. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Health {
    components: Arc<Mutex<BTreeMap<&'static str, Result<(), Code>>>>,
    /// What is told, and no fault of this process.
    told: Arc<Mutex<BTreeMap<&'static str, Result<(), Code>>>>,
}

impl Health {
    /// Nobody has said anything: healthy.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Component `name` is well, or fails with a code.
    pub fn set(&self, name: &'static str, state: Result<(), Code>) {
        self.components.lock().unwrap_or_else(PoisonError::into_inner).insert(name, state);
    }

    /// The same of something outside this process: it is told, and makes nothing fail.
    pub fn tell(&self, name: &'static str, state: Result<(), Code>) {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).insert(name, state);
    }

    /// What every component last said, by name.
    #[must_use]
    pub fn snapshot(&self) -> BTreeMap<&'static str, Result<(), Code>> {
        self.components.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether all components are well.
    #[must_use]
    pub fn is_well(&self) -> bool {
        self.snapshot().values().all(Result::is_ok)
    }

    /// What is not well by name, with what is only told.
    #[must_use]
    pub fn faults(&self) -> BTreeMap<&'static str, Code> {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let all = self.snapshot().into_iter().chain(told);
        all.filter_map(|(name, state)| Some((name, state.err()?))).collect()
    }

    /// `{"status": "ok" | "failing", "components": {name: "ok" | code}}`; with what is only told.
    #[must_use]
    pub fn document(&self) -> serde_json::Value {
        let status = if self.is_well() { "ok" } else { "failing" };
        let mut components = self.snapshot();
        components.extend(self.told.lock().unwrap_or_else(PoisonError::into_inner).iter());
        let components: BTreeMap<_, _> = components
            .into_iter()
            .map(|(name, state)| (name, state.map_or_else(Code::as_str, |()| "ok")))
            .collect();
        serde_json::json!({ "status": status, "components": components })
    }

    /// `GET /health`: 200 when all is well, else 503, with [`Health::document`].
    #[must_use]
    pub fn routes(&self) -> Routes {
        let health = self.clone();
        warp::path!("health")
            .and(warp::get())
            .map(move || {
                let document = health.document();
                let mut response = Response::new(document.to_string().into());
                response
                    .headers_mut()
                    .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
                if document.get("status").and_then(serde_json::Value::as_str) != Some("ok") {
                    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
                }
                response
            })
            .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_failing_component_fails_the_whole() {
        let health = Health::new();
        assert!(health.is_well());
        health.set("store", Ok(()));
        health.clone().set("net", Err(Code::Unreachable));
        assert_eq!(
            health.document(),
            serde_json::json!({"status": "failing", "components": {"net": "unreachable", "store": "ok"}})
        );
        health.set("net", Ok(()));
        health.tell("index", Err(Code::Unreachable));
        assert!(health.is_well());
        assert_eq!(
            health.document(),
            serde_json::json!({"status": "ok", "components": {"index": "unreachable", "net": "ok", "store": "ok"}})
        );
    }
}
