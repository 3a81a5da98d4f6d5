use super::*;

fn answer(status: u16, body: &str) -> http::Response<Bytes> {
    http::Response::builder().status(status).body(Bytes::from(body.to_owned())).unwrap()
}

fn error(status: u16, code: &str, message: &str) -> Box<SideError> {
    let body =
        serde_json::json!({"type": "error.list", "request_id": null, "errors": [{"code": code, "message": message}]});
    classify(&answer(status, &body.to_string()), false).unwrap_err()
}

#[test]
fn the_status_decides_then_the_code_then_the_words() {
    let rejected = || ErrorKind::Rejected { field: None };
    let table = [
        (401, "unauthorized", "Access Token Invalid", ErrorKind::Auth(AuthProblem::BadCredentials)),
        (401, "unauthorized", "This workspace is in another region", ErrorKind::Auth(AuthProblem::WrongRegion)),
        (402, "x", "pay", ErrorKind::Auth(AuthProblem::Plan)),
        (403, "api_plan_restricted", "Active subscription needed.", ErrorKind::Auth(AuthProblem::Plan)),
        (403, "forbidden", "no", ErrorKind::Auth(AuthProblem::MissingScope)),
        (404, "not_found", "User Not Found", ErrorKind::NotFound),
        (404, "company_not_found", "Company Not Found", ErrorKind::NotFound),
        (400, "bad_request", "bad 'test' parameter", ErrorKind::Rejected { field: Some("test".into()) }),
        (400, "scroll_exists", "scroll already exists for this workspace", ErrorKind::Busy),
        (400, "bad_request", "page limit reached, please use scroll API", ErrorKind::Busy),
        (400, "parameter_invalid", "starting_after cursor is invalid", ErrorKind::LostCursor),
        (422, "data_invalid", "no", rejected()),
        (429, "rate_limit_exceeded", "slow down", ErrorKind::Throttled),
        (500, "server_error", "Server Error", ErrorKind::Unavailable),
        (500, "server_error", "Please restart the scroll operation.", ErrorKind::LostCursor),
        (503, "x", "", ErrorKind::Unavailable),
        (404, "rate_limit_exceeded", "the status goes first", ErrorKind::NotFound),
    ];
    for (status, code, message, kind) in table {
        let error = error(status, code, message);
        assert_eq!(error.kind, kind, "{status} {code} {message}");
        assert_eq!((error.status, error.code.as_deref()), (Some(status), Some(code)));
    }
}

#[test]
fn a_conflict_names_its_holder_only_in_its_words() {
    let live =
        error(409, "conflict", "A contact matching those details already exists with id=5da6f18e3d7cf967e4582d05");
    let holder = Some("5da6f18e3d7cf967e4582d05".to_owned());
    assert_eq!(live.kind, ErrorKind::Conflict { identifiers: vec![], holder: holder.clone(), archived: false });
    let archived = error(
        409,
        "conflict",
        "An archived contact matching those details already exists with id=5da6f18e3d7cf967e4582d05",
    );
    assert_eq!(archived.kind, ErrorKind::Conflict { identifiers: vec![], holder, archived: true });
    let unsaid = error(409, "conflict", "Multiple existing users match this email address");
    assert_eq!(unsaid.kind, ErrorKind::Conflict { identifiers: vec![], holder: None, archived: false });
}

#[test]
fn a_merged_contacts_survivor_is_in_the_link() {
    let answer = http::Response::builder()
        .status(410)
        .header("link", "</contacts/667d60a98a68186f43bafdb9>; rel=\"canonical\"")
        .body(Bytes::from_static(b"{\"type\":\"error.list\",\"errors\":[{\"code\":\"contact_merged\"}]}"))
        .unwrap();
    let error = classify(&answer, false).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Merged { into: Some("667d60a98a68186f43bafdb9".into()) });
}

#[test]
fn what_is_not_json_is_no_success_and_no_verdict() {
    for body in ["", "  ", "<html>"] {
        assert_eq!(classify(&answer(200, body), false).unwrap_err().kind, ErrorKind::Malformed);
    }
    assert!(classify(&answer(202, ""), false).is_ok(), "an event's answer is empty");
    for status in [403, 404, 502] {
        assert_eq!(classify(&answer(status, "<html>"), false).unwrap_err().kind, ErrorKind::Unavailable, "{status}");
    }
    assert_eq!(classify(&answer(500, "<html>"), true).unwrap_err().kind, ErrorKind::Ambiguous);
    assert_eq!(classify(&answer(302, ""), false).unwrap_err().kind, ErrorKind::Malformed);
    for body in ["{}", "[]", "{\"errors\":[]}", "{\"errors\":{}}", "{\"errors\":[null, 3]}"] {
        assert_eq!(classify(&answer(422, body), false).unwrap_err().kind, ErrorKind::Rejected { field: None });
    }
}

#[test]
fn throttling_says_how_long_by_the_vendors_clock() {
    let answer = http::Response::builder()
        .status(429)
        .header("date", "Wed, 31 Mar 2021 20:02:10 GMT")
        .header("x-ratelimit-reset", "1617220937")
        .body(Bytes::from_static(b"{}"))
        .unwrap();
    assert_eq!(classify(&answer, false).unwrap_err().retry_after, Some(Duration::from_secs(7)));
    let mut asked = answer;
    asked.headers_mut().insert("retry-after", http::HeaderValue::from_static("3"));
    assert_eq!(classify(&asked, false).unwrap_err().retry_after, Some(Duration::from_secs(3)));
}

#[test]
fn messages_carry_no_address_and_no_number_of_a_person_and_are_bounded() {
    assert_eq!(masked("Email jane@example.com is taken"), "Email [address] is taken");
    assert_eq!(masked("phone +33 6 12-34-56-78 is bad"), "phone [number] is bad");
    assert_eq!(masked("phone:33612345678"), "[number]");
    assert_eq!(masked("limit of 150 per page"), "limit of 150 per page");
    let id = "exists with id=5da6f18e3d7cf967e4582d05";
    assert_eq!(masked(id), id);
    assert!(masked(&"é".repeat(10_000)).chars().count() <= LONGEST_MESSAGE + 1);
}
