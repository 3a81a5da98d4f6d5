//! The validator against tiny descriptions: it is the judge of everything else, so it has to be judged first.

use crate::openapi::{Part, Problem, Spec};
use serde_json::{Value, json};

const TINY: &str = r##"
openapi: 3.0.1
servers: [{ url: "https://api.example.com/v3" }]
paths:
  /contacts:
    get:
      parameters:
      - { name: limit, in: query, schema: { type: integer, maximum: 1000, default: 50 } }
      - { name: sort, in: query, schema: { type: string, enum: [asc, desc] } }
      - { name: ids, in: query, schema: { type: array, items: { type: integer } } }
      - { $ref: "#/components/parameters/since" }
      responses:
        "200": { description: ok, content: { application/json: { schema: { $ref: "#/components/schemas/page" } } } }
    post:
      requestBody:
        required: true
        content:
          application/json:
            schema:
              type: object
              required: [email]
              properties:
                email: { type: string }
                attributes: { type: object, additionalProperties: { oneOf: [{ type: string }, { type: number }] } }
                nested: { $ref: "#/components/schemas/nested" }
      responses:
        "201": { description: made, content: { application/json: { schema: { type: object, required: [id] } } } }
        "204": { description: changed }
  /contacts/{id}:
    parameters:
    - { name: id, in: path, required: true, schema: { type: integer } }
    get:
      responses:
        "200": { description: ok, content: { application/json: { schema: { $ref: "#/components/schemas/contact" } } } }
  /contacts/lists:
    get: { responses: { "200": { description: ok } } }
  /must:
    get:
      parameters: [{ name: key, in: query, required: true, schema: { type: string } }]
      responses: { "200": { description: ok } }
components:
  parameters:
    since: { name: modifiedSince, in: query, schema: { type: string, format: date-time } }
  schemas:
    nested: { type: object, properties: { known: { type: boolean } } }
    errorModel: { type: object, required: [message], properties: { message: { type: string } } }
    contact:
      type: object
      required: [id, name]
      properties:
        id: { type: integer, minimum: 0, exclusiveMinimum: true }
        name: { type: string, nullable: true, example: Ann }
        plan: { type: string, nullable: true, enum: [free, paid] }
        owner: { nullable: true, allOf: [{ $ref: "#/components/schemas/contact" }] }
        seen: { type: string, format: date-time }
        strange: { type: datetime }
    page:
      type: object
      properties: { contacts: { type: array, items: { $ref: "#/components/schemas/contact" } } }
"##;

fn get(path: &str) -> Vec<Problem> {
    Spec::parse(TINY).check_exchange("GET", path, None, 200, Some(&json!({})))
}

fn found(problems: &[Problem]) -> Vec<(Part, &str)> {
    problems.iter().map(|problem| (problem.part, problem.pointer.as_str())).collect()
}

fn contact(value: &Value) -> Vec<Problem> {
    Spec::parse(TINY).check_exchange("GET", "/contacts/1", None, 200, Some(value))
}

fn post(body: &Value, status: u16, answer: Option<&Value>) -> Vec<Problem> {
    Spec::parse(TINY).check_exchange("POST", "/contacts", Some(body), status, answer)
}

#[test]
fn a_literal_segment_wins_over_a_parameter() {
    let spec = Spec::parse(TINY);
    assert_eq!(spec.operation_pointer("GET", "/v3/contacts/lists").unwrap(), "/paths/~1contacts~1lists/get");
    assert_eq!(spec.operation_pointer("GET", "/contacts/lists").unwrap(), "/paths/~1contacts~1lists/get");
    assert_eq!(spec.operation_pointer("GET", "/contacts/7").unwrap(), "/paths/~1contacts~1{id}/get");
    assert_eq!(spec.operation_pointer("GET", "/v4/contacts/7"), None);
}

#[test]
fn an_unknown_path_or_method_is_a_problem() {
    assert_eq!(found(&get("/nowhere")), [(Part::Operation, "")]);
    let problems = Spec::parse(TINY).check_exchange("DELETE", "/contacts", None, 204, None);
    assert_eq!(found(&problems), [(Part::Operation, "")]);
}

#[test]
fn query_parameters_are_known_typed_and_bounded() {
    assert_eq!(found(&get("/contacts?limit=1000&sort=asc&ids=1,2&ids=3")), []);
    assert_eq!(found(&get("/contacts?modifiedSince=2026-01-02T03%3A04%3A05.678%2B02%3A00")), []);
    assert_eq!(found(&get("/contacts?limit=1001")), [(Part::Query, "limit")]);
    assert_eq!(found(&get("/contacts?limit=many")), [(Part::Query, "limit")]);
    assert_eq!(found(&get("/contacts?sort=up")), [(Part::Query, "sort")]);
    assert_eq!(found(&get("/contacts?ids=1,x")), [(Part::Query, "ids")]);
    // The trap of an unencoded plus: it is a space by the time the server reads it.
    assert_eq!(found(&get("/contacts?modifiedSince=2026-01-02T03:04:05.678+02:00")), [(Part::Query, "modifiedSince")]);
    assert_eq!(found(&get("/contacts?modified_since=x")), [(Part::Query, "modified_since")]);
    assert_eq!(found(&get("/must")), [(Part::Query, "key")]);
}

#[test]
fn path_parameters_are_typed() {
    let problems = Spec::parse(TINY).check_exchange(
        "GET",
        "/contacts/a%40example.com",
        None,
        200,
        Some(&json!({"id": 1, "name": null})),
    );
    assert_eq!(found(&problems), [(Part::Path, "id")]);
}

#[test]
fn nullable_enum_recursion_and_formats() {
    assert_eq!(found(&contact(&json!({"id": 1, "name": null, "plan": null, "owner": null, "more": 1}))), []);
    assert_eq!(
        found(&contact(&json!({"id": 1, "name": "A", "owner": {"id": 2, "name": 3}}))),
        [(Part::Response, "/owner/name")]
    );
    assert_eq!(found(&contact(&json!({"id": 0, "name": "A"}))), [(Part::Response, "/id")]);
    assert_eq!(found(&contact(&json!({"id": 1, "name": "A", "plan": "gold"}))), [(Part::Response, "/plan")]);
    assert_eq!(found(&contact(&json!({"id": 1, "name": "A", "seen": "yesterday"}))), [(Part::Response, "/seen")]);
    assert_eq!(found(&contact(&json!({"id": 1}))), [(Part::Response, "")]);
}

#[test]
fn a_request_may_not_hold_what_the_vendor_would_ignore() {
    let made = json!({"id": 1});
    assert_eq!(found(&post(&json!({"email": "a", "attributes": {"ANY": 1}}), 201, Some(&made))), []);
    assert_eq!(found(&post(&json!({"email": "a", "emial": "a"}), 201, Some(&made))), [(Part::Request, "")]);
    let deep = json!({"email": "a", "nested": {"unknown": 1}});
    assert_eq!(found(&post(&deep, 201, Some(&made))), [(Part::Request, "/nested")]);
    assert_eq!(
        found(&post(&json!({"email": "a", "attributes": {"A": [1]}}), 201, Some(&made))),
        [(Part::Request, "/attributes/A")]
    );
    let problems = Spec::parse(TINY).check_exchange("POST", "/contacts", None, 201, Some(&made));
    assert_eq!(found(&problems), [(Part::Request, "")]);
}

#[test]
fn a_refused_request_is_not_judged_but_its_answer_is() {
    let error = json!({"message": "email missing"});
    assert_eq!(found(&post(&json!({}), 400, Some(&error))), []);
    assert_eq!(found(&post(&json!({}), 400, Some(&json!({"error": 1})))), [(Part::Response, "")]);
}

#[test]
fn statuses_and_bodies_agree() {
    let body = json!({"email": "a"});
    assert_eq!(found(&post(&body, 204, None)), []);
    assert_eq!(found(&post(&body, 204, Some(&json!({"id": 1})))), [(Part::Response, "")]);
    assert_eq!(found(&post(&body, 201, None)), [(Part::Response, "")]);
    assert_eq!(found(&post(&body, 202, None)), [(Part::Status, "")]);
    assert_eq!(found(&post(&body, 429, Some(&json!({"message": "slow down"})))), []);
    assert_eq!(found(&post(&body, 503, None)), [(Part::Response, "")]);
}
