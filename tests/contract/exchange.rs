//! Drives a double in process and judges every exchange by the vendor's descriptions.

use crate::deviations::{Deviation, Reviewed};
use crate::openapi::{Problem, Spec};
use axum::Router;
use bytes::Bytes;
use linkspan::http::{InProcess, Transport as _};
use linkspan::sandbox::LoggedRequest;
use serde_json::Value;
use std::sync::Arc;

/// One vendor's descriptions, best first. An exchange fits if it fits one of them: a vendor describes one API at
/// different times, and answers old and new alike.
pub struct Judge(Vec<Arc<Spec>>);

impl Judge {
    /// `None` if there is no description to judge by.
    pub fn load(names: &[&str]) -> Option<Self> {
        names.iter().map(|name| Spec::load(name)).collect::<Option<Vec<_>>>().map(Self)
    }

    fn judge(&self, method: &str, target: &str, check: impl Fn(&Spec) -> Vec<Problem>) -> Vec<Problem> {
        let mut first = None;
        for spec in &self.0 {
            let problems = check(spec);
            if problems.is_empty() {
                return problems;
            }
            if first.is_none() && spec.knows(method, target) {
                first = Some(problems);
            }
        }
        first.unwrap_or_else(|| self.0.first().map_or_else(Vec::new, |spec| check(spec)))
    }

    /// What in the requests of a log does not fit: for what our own clients sent.
    pub fn problems_in(&self, log: &[LoggedRequest], reviewed: &mut Reviewed) -> Vec<Problem> {
        let mut problems = Vec::new();
        for request in log {
            let body = parse(&request.body);
            let found = self.judge(&request.method, &request.target, |spec| {
                spec.check_request(&request.method, &request.target, body.as_ref())
            });
            problems.extend(reviewed.filter(found));
        }
        problems
    }
}

/// A client without opinions: sends what it is told, and keeps what did not fit.
pub struct Driver {
    transport: InProcess,
    judge: Judge,
    base: &'static str,
    headers: Vec<(&'static str, String)>,
    reviewed: Reviewed,
    problems: Vec<Problem>,
    exchanges: usize,
}

impl Driver {
    /// `base` stands before every target that is sent; `headers` go with every request.
    pub fn new(
        router: Router,
        judge: Judge,
        base: &'static str,
        headers: Vec<(&'static str, String)>,
        table: &'static [Deviation],
    ) -> Self {
        let transport = InProcess::new(router);
        Self { transport, judge, base, headers, reviewed: Reviewed::new(table), problems: Vec::new(), exchanges: 0 }
    }

    /// One exchange, judged. Panics if the double does not answer `status`: a scenario that takes a wrong turn would
    /// judge errors only.
    pub async fn expect(&mut self, status: u16, method: &str, target: &str, body: Option<Value>) -> Value {
        let (answered, answer) = self.send(method, target, body.as_ref()).await;
        assert_eq!(answered, status, "{method} {target} answered {answer:?}");
        answer.unwrap_or(Value::Null)
    }

    async fn send(&mut self, method: &str, target: &str, body: Option<&Value>) -> (u16, Option<Value>) {
        let mut request = http::Request::builder()
            .method(method)
            .uri(format!("http://sandbox{}{target}", self.base))
            .header("accept", "application/json");
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        let bytes = body.map_or_else(Bytes::new, |body| Bytes::from(body.to_string()));
        if body.is_some() {
            request = request.header("content-type", "application/json");
        }
        let answer = self.transport.send(request.body(bytes).unwrap()).await.unwrap();
        let status = answer.status().as_u16();
        let answered = parse(answer.body());
        assert!(
            answered.is_some() || answer.body().is_empty(),
            "{method} {target} ({status}) is not JSON: {:?}",
            answer.body()
        );
        let found = self
            .judge
            .judge(method, target, |spec| spec.check_exchange(method, target, body, status, answered.as_ref()));
        self.problems.extend(self.reviewed.filter(found));
        self.exchanges += 1;
        (status, answered)
    }

    /// Everything fitted, and every reviewed deviation was needed.
    pub fn finish(self, at_least: usize) {
        let mut lines: Vec<String> = self.problems.iter().map(ToString::to_string).collect();
        lines.sort();
        lines.dedup();
        assert!(lines.is_empty(), "{} problems in {} exchanges:\n{}", lines.len(), self.exchanges, lines.join("\n"));
        let unused = self.reviewed.unused();
        assert!(unused.is_empty(), "reviewed deviations that no longer occur: {unused:#?}");
        assert!(self.exchanges >= at_least, "only {} exchanges", self.exchanges);
    }
}

fn parse(bytes: &Bytes) -> Option<Value> {
    if bytes.is_empty() { None } else { serde_json::from_slice(bytes).ok() }
}

#[test]
fn what_a_client_sent_is_judged_whatever_was_answered() {
    let spec = r#"{"openapi": "3.0.1", "paths": {"/contacts": {"post": {
        "parameters": [{"name": "dry", "in": "query", "schema": {"type": "boolean"}}],
        "requestBody": {"content": {"application/json": {"schema": {"type": "object", "properties": {"email": {"type": "string"}}}}}},
        "responses": {"201": {"description": "made"}}
    }}}}"#;
    let newer = spec.replace("email", "ext_id");
    let judge = Judge(vec![Arc::new(Spec::parse(spec)), Arc::new(Spec::parse(&newer))]);
    let sent = |target: &str, body: &'static str| LoggedRequest {
        method: "POST".into(),
        template: "/contacts".into(),
        target: target.into(),
        body: Bytes::from_static(body.as_bytes()),
        status: 400,
        write: true,
    };
    let problems = |log: &[LoggedRequest]| judge.problems_in(log, &mut Reviewed::new(&[]));
    assert_eq!(
        problems(&[sent("/contacts?dry=true", r#"{"email": "a"}"#), sent("/contacts", r#"{"ext_id": "a"}"#)]),
        []
    );
    assert_eq!(problems(&[sent("/contacts", r#"{"emial": "a"}"#)]).len(), 1);
    assert_eq!(problems(&[sent("/contacts?dry=maybe", r#"{"email": "a"}"#)]).len(), 1);
    assert_eq!(problems(&[sent("/nowhere", "{}")]).len(), 1);
}
