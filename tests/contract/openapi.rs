//! An OpenAPI 3.0 description as a judge of exchanges: operation by template, parameters, bodies, statuses.
//!
//! Schemas are translated to JSON Schema draft 4, which OpenAPI 3.0 grew out of (`exclusiveMinimum: true`, `$ref`
//! without siblings), compiled when first needed and kept.

use jsonschema::ValidationError;
use jsonschema::error::ValidationErrorKind;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

/// Which part of an exchange does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// The path, or the method on it.
    Operation,
    /// A parameter in the path.
    Path,
    /// A parameter behind the `?`.
    Query,
    /// The request's body.
    Request,
    /// The status.
    Status,
    /// The answer's body.
    Response,
}

/// One way in which an exchange does not fit the description.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// `GET /contacts/{id}`, or the concrete path if no template fits.
    pub operation: String,
    /// Which part.
    pub part: Part,
    /// The status that was answered.
    pub status: u16,
    /// JSON pointer into the body, or the parameter's name.
    pub pointer: String,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { operation, part, status, pointer, message } = self;
        write!(f, "{operation} ({status}) {part:?} at `{pointer}`: {message}")
    }
}

/// A vendor's description.
pub struct Spec {
    document: Value,
    /// Path prefixes of `servers` (`/v3`), which a concrete path may carry or not.
    prefixes: Vec<String>,
    templates: Vec<Template>,
    compiled: Mutex<BTreeMap<(String, Mode), Compiled>>,
}

/// A schema ready to judge, or why it cannot.
type Compiled = Arc<Result<jsonschema::Validator, String>>;

/// `/contacts/{id}`, cut at the slashes.
struct Template {
    path: String,
    segments: Vec<String>,
}

/// Whether properties that the schema does not list are a problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Mode {
    /// Answers: vendors add fields, and clients have to bear it.
    Open,
    /// Requests: a vendor ignores a misspelt field without a word, so nobody else would find it.
    Closed,
}

/// An operation with what its path said.
struct Operation<'a> {
    name: String,
    /// JSON pointer to the operation.
    pointer: String,
    value: &'a Value,
    shared_parameters: Option<&'a Value>,
    path_values: BTreeMap<String, String>,
}

static LOADED: Mutex<BTreeMap<String, Option<Arc<Spec>>>> = Mutex::new(BTreeMap::new());

impl Spec {
    /// Loads `name` (`intercom-2.11.yaml`) from the folder of descriptions, once per process. `None`: there is none.
    ///
    /// Panics if there is none and CI needs one, or if the file cannot be read.
    pub fn load(name: &str) -> Option<Arc<Self>> {
        let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(spec) = loaded.get(name) {
            return spec.clone();
        }
        let path = folder().join(name);
        let spec = if path.exists() {
            Some(Arc::new(Self::parse(&std::fs::read_to_string(&path).unwrap())))
        } else {
            let note = format!("no description at {}: set LINKSPAN_SPECS to the folder that holds it", path.display());
            assert!(environment("CI").as_deref() != Some("true"), "{note}");
            eprintln!("skipped: {note}");
            None
        };
        loaded.insert(name.to_owned(), spec.clone());
        spec
    }

    /// Reads a description from YAML or JSON (which is YAML, but read much faster by its own parser).
    pub fn parse(text: &str) -> Self {
        let document: Value = if text.trim_start().starts_with('{') {
            serde_json::from_str(text).expect("the description is JSON")
        } else {
            serde_yaml::from_str(text).expect("the description is YAML")
        };
        let prefixes = document["servers"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|server| url::Url::parse(server["url"].as_str()?).ok())
            .map(|url| url.path().trim_end_matches('/').to_owned())
            .filter(|prefix| !prefix.is_empty())
            .collect();
        let templates = document["paths"]
            .as_object()
            .into_iter()
            .flat_map(Map::keys)
            .map(|path| Template { path: path.clone(), segments: segments(path) })
            .collect();
        Self { document, prefixes, templates, compiled: Mutex::default() }
    }

    /// Everything in one exchange that does not fit. `path_and_query` is as it went over the wire.
    pub fn check_exchange(
        &self,
        method: &str,
        path_and_query: &str,
        request_body: Option<&Value>,
        status: u16,
        response_body: Option<&Value>,
    ) -> Vec<Problem> {
        let (operation, query, mut report) = match self.open(method, path_and_query, status) {
            Ok(opened) => opened,
            Err(problem) => return vec![*problem],
        };
        // A request that the vendor refuses may well not fit: then only the answer is judged.
        if status != 400 && status != 422 {
            self.check_parameters(&operation, query, &mut report);
            self.check_request_body(&operation, request_body, &mut report);
        }
        self.check_response(&operation, response_body, &mut report);
        report.problems
    }

    /// Everything in one request that does not fit, whatever was answered: what our own clients send has to.
    pub fn check_request(&self, method: &str, path_and_query: &str, body: Option<&Value>) -> Vec<Problem> {
        let (operation, query, mut report) = match self.open(method, path_and_query, 0) {
            Ok(opened) => opened,
            Err(problem) => return vec![*problem],
        };
        self.check_parameters(&operation, query, &mut report);
        self.check_request_body(&operation, body, &mut report);
        report.problems
    }

    /// Whether the description has the operation at all.
    pub fn knows(&self, method: &str, path_and_query: &str) -> bool {
        self.open(method, path_and_query, 0).is_ok()
    }

    fn open<'a, 'b>(
        &'a self,
        method: &str,
        path_and_query: &'b str,
        status: u16,
    ) -> Result<(Operation<'a>, &'b str, Report), Box<Problem>> {
        let (path, query) = path_and_query.split_once('?').unwrap_or((path_and_query, ""));
        let Some(operation) = self.operation(method, path) else {
            return Err(Box::new(Problem {
                operation: format!("{method} {path}"),
                part: Part::Operation,
                status,
                pointer: String::new(),
                message: "the description has no such operation".to_owned(),
            }));
        };
        let report = Report { operation: operation.name.clone(), status, problems: Vec::new() };
        Ok((operation, query, report))
    }

    /// The template that fits, with the operation behind it: literal segments win over parameters, from the left.
    fn operation(&self, method: &str, path: &str) -> Option<Operation<'_>> {
        let path = self
            .prefixes
            .iter()
            .find_map(|prefix| path.strip_prefix(prefix.as_str()).filter(|rest| rest.starts_with('/')))
            .unwrap_or(path);
        let concrete = segments(path);
        let method_key = method.to_ascii_lowercase();
        self.templates
            .iter()
            .filter_map(|template| {
                let values = template.fits(&concrete)?;
                let item = &self.document["paths"][&template.path];
                let value = item.get(&method_key)?;
                let literal: Vec<bool> = template.segments.iter().map(|segment| !segment.contains('{')).collect();
                Some((
                    literal,
                    Operation {
                        name: format!("{method} {}", template.path),
                        pointer: format!("/paths/{}/{method_key}", escape(&template.path)),
                        value,
                        shared_parameters: item.get("parameters"),
                        path_values: values,
                    },
                ))
            })
            .max_by(|(a, _), (b, _)| a.cmp(b))
            .map(|(_, operation)| operation)
    }

    fn check_parameters(&self, operation: &Operation<'_>, query: &str, report: &mut Report) {
        let mut given: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            given.entry(name.trim_end_matches("[]").to_owned()).or_default().push(value.into_owned());
        }
        let own = operation.value.get("parameters");
        let mut known = BTreeSet::new();
        for parameter in [own, operation.shared_parameters].into_iter().flatten().filter_map(Value::as_array).flatten()
        {
            let parameter = self.resolve(parameter);
            let name = parameter["name"].as_str().unwrap_or_default();
            let schema = &parameter["schema"];
            match parameter["in"].as_str() {
                Some("query") => {
                    // Own parameters come first, and replace shared ones of the same name.
                    if !known.insert(name.trim_end_matches("[]").to_owned()) {
                        continue;
                    }
                    match given.get(name.trim_end_matches("[]")) {
                        Some(values) => {
                            let value = self.typed(schema, values);
                            self.check_value(Part::Query, schema, Mode::Open, &value, name, report);
                        }
                        None if parameter["required"] == json!(true) => {
                            report.add(Part::Query, name, "required, but not given".to_owned());
                        }
                        None => {}
                    }
                }
                Some("path") => {
                    if let Some(value) = operation.path_values.get(name) {
                        let value = self.typed(schema, std::slice::from_ref(value));
                        self.check_value(Part::Path, schema, Mode::Open, &value, name, report);
                    }
                }
                _ => {}
            }
        }
        for name in given.keys().filter(|name| !known.contains(*name)) {
            report.add(Part::Query, name, "the description knows no such parameter".to_owned());
        }
    }

    /// What a parameter's text means under its schema. A text that means nothing there stays text, and fails.
    fn typed(&self, schema: &Value, values: &[String]) -> Value {
        let schema = self.resolve(schema);
        let one = |schema: &Value, text: &str| -> Value {
            let options: Vec<&Value> = ["anyOf", "oneOf"]
                .iter()
                .filter_map(|word| schema.get(word)?.as_array())
                .flatten()
                .chain([schema])
                .collect();
            for option in options {
                let option = self.resolve(option);
                let parsed = match option["type"].as_str() {
                    Some("integer") => text.parse::<i64>().ok().map(Value::from),
                    Some("number") => text.parse::<f64>().ok().map(Value::from),
                    Some("boolean") => text.parse::<bool>().ok().map(Value::from),
                    _ => None,
                };
                if let Some(parsed) = parsed {
                    return parsed;
                }
            }
            Value::from(text)
        };
        if schema["type"] == "array" {
            let items = self.resolve(&schema["items"]);
            return values.iter().flat_map(|value| value.split(',')).map(|value| one(items, value)).collect();
        }
        values.last().map_or(Value::Null, |value| one(schema, value))
    }

    fn check_request_body(&self, operation: &Operation<'_>, body: Option<&Value>, report: &mut Report) {
        let described = operation.value.get("requestBody").map(|body| self.resolve(body));
        match (described, body) {
            (Some(described), Some(body)) => {
                if let Some(schema) = json_schema_of(described) {
                    self.check_value(Part::Request, schema, Mode::Closed, body, "", report);
                }
            }
            (Some(described), None) if described["required"] == json!(true) => {
                report.add(Part::Request, "", "a body is required".to_owned());
            }
            (None, Some(body)) if !body.is_null() => {
                report.add(Part::Request, "", "the description knows no body here".to_owned());
            }
            _ => {}
        }
    }

    fn check_response(&self, operation: &Operation<'_>, body: Option<&Value>, report: &mut Report) {
        let responses = &operation.value["responses"];
        let status = report.status;
        let described = responses
            .get(status.to_string())
            .or_else(|| responses.get(format!("{}XX", status / 100)))
            .or_else(|| responses.get("default").filter(|_| status >= 400));
        let Some(described) = described else {
            // Neither vendor repeats 401, 429 or 5xx under every operation, but every error has the same shape.
            match self.common_error_schema().filter(|_| status >= 400) {
                Some(schema) => match body {
                    Some(body) => self.check_value(Part::Response, &schema, Mode::Open, body, "", report),
                    None => report.add(Part::Response, "", "an error without a body".to_owned()),
                },
                None => report.add(Part::Status, "", "the description knows no such status here".to_owned()),
            }
            return;
        };
        let described = self.resolve(described);
        match (json_schema_of(described), body) {
            (Some(schema), Some(body)) => self.check_value(Part::Response, schema, Mode::Open, body, "", report),
            (Some(_), None) if status != 204 => report.add(Part::Response, "", "a body is described".to_owned()),
            (None, Some(body)) if described.get("content").is_none() && !is_empty(body) => {
                report.add(Part::Response, "", "no body is described".to_owned());
            }
            _ => {}
        }
    }

    /// The shape of errors that are described nowhere else: Intercom's `error`, Brevo's `errorModel`.
    fn common_error_schema(&self) -> Option<Value> {
        let schemas = self.document["components"]["schemas"].as_object()?;
        let name = ["error", "errorModel", "ErrorModel"].into_iter().find(|name| schemas.contains_key(*name))?;
        Some(json!({ "$ref": format!("#/components/schemas/{name}") }))
    }

    fn check_value(&self, part: Part, schema: &Value, mode: Mode, value: &Value, at: &str, report: &mut Report) {
        let compiled = self.compile(schema, mode);
        match &*compiled {
            Err(error) => report.add(part, at, format!("the description's schema cannot be compiled: {error}")),
            Ok(validator) => {
                for (pointer, message) in validator.iter_errors(value).flat_map(|error| innermost(&error)) {
                    let in_body = part == Part::Request || part == Part::Response;
                    report.add(part, if in_body { &pointer } else { at }, message);
                }
            }
        }
    }

    fn compile(&self, schema: &Value, mode: Mode) -> Compiled {
        let key = (schema.to_string(), mode);
        if let Some(compiled) = self.compiled.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Arc::clone(compiled);
        }
        let built = jsonschema::options()
            .with_draft(jsonschema::Draft::Draft4)
            .should_validate_formats(true)
            .should_ignore_unknown_formats(true)
            .build(&self.self_contained(schema, mode))
            .map_err(|error| shorten(&error.to_string()));
        let built = Arc::new(built);
        self.compiled.lock().unwrap_or_else(PoisonError::into_inner).insert(key, Arc::clone(&built));
        built
    }

    /// The schema as JSON Schema, with every definition that it reaches.
    fn self_contained(&self, schema: &Value, mode: Mode) -> Value {
        let mut translator = Translator::default();
        let body = translator.translate(schema, mode);
        let mut definitions = Map::new();
        while let Some((reference, mode)) = translator.wanted.pop_first() {
            let name = definition_name(&reference, mode);
            let target = reference.strip_prefix('#').and_then(|pointer| self.document.pointer(pointer));
            let translated = translator.translate(target.unwrap_or(&Value::Null), mode);
            definitions.insert(name, translated);
            let known: Vec<_> = translator
                .wanted
                .iter()
                .filter(|(r, m)| definitions.contains_key(&definition_name(r, *m)))
                .cloned()
                .collect();
            for wanted in known {
                translator.wanted.remove(&wanted);
            }
        }
        json!({ "allOf": [body], "definitions": definitions })
    }

    fn resolve<'a>(&'a self, value: &'a Value) -> &'a Value {
        let mut value = value;
        // A chain longer than this is a circle.
        for _ in 0..16 {
            match value.get("$ref").and_then(Value::as_str).and_then(|reference| reference.strip_prefix('#')) {
                Some(pointer) => value = self.document.pointer(pointer).unwrap_or(&Value::Null),
                None => break,
            }
        }
        value
    }

    /// Every example in the description beside the problems that it has with its own schema:
    /// (operation, what, problems).
    pub fn contradictory_examples(&self) -> (usize, Vec<(String, String)>) {
        let (mut count, mut contradictions) = (0, Vec::new());
        let paths = self.document["paths"].as_object().into_iter().flatten();
        for (path, item) in paths {
            for (method, operation) in item.as_object().into_iter().flatten().filter(|(_, value)| value.is_object()) {
                let name = format!("{} {path}", method.to_uppercase());
                let responses = operation["responses"].as_object().into_iter().flatten();
                let bodies = responses
                    .map(|(status, response)| (status.as_str(), self.resolve(response), Part::Response))
                    .chain(operation.get("requestBody").map(|body| ("request", self.resolve(body), Part::Request)));
                for (status, described, part) in bodies {
                    let Some(media) = json_media_of(described) else { continue };
                    let Some(schema) = media.get("schema") else { continue };
                    let several = media["examples"].as_object().into_iter().flat_map(Map::values);
                    let several = several.filter_map(|example| self.resolve(example).get("value"));
                    for example in several.chain(media.get("example")) {
                        count += 1;
                        let mut report = Report { operation: name.clone(), status: 0, problems: Vec::new() };
                        self.check_value(part, schema, Mode::Open, example, "", &mut report);
                        contradictions.extend(
                            report
                                .problems
                                .into_iter()
                                .map(|problem| (format!("{name} {status}"), problem.to_string())),
                        );
                    }
                }
            }
        }
        (count, contradictions)
    }

    /// JSON pointer to the operation that a request belongs to; tests use it to see which template won.
    #[cfg(test)]
    pub fn operation_pointer(&self, method: &str, path: &str) -> Option<String> {
        self.operation(method, path).map(|operation| operation.pointer)
    }
}

impl Template {
    fn fits(&self, concrete: &[String]) -> Option<BTreeMap<String, String>> {
        if self.segments.len() != concrete.len() {
            return None;
        }
        let mut values = BTreeMap::new();
        for (template, segment) in self.segments.iter().zip(concrete) {
            if let Some(name) = template.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
                if segment.is_empty() {
                    return None;
                }
                let decoded = percent_encoding::percent_decode_str(segment).decode_utf8_lossy().into_owned();
                values.insert(name.to_owned(), decoded);
            } else if template != segment {
                return None;
            }
        }
        Some(values)
    }
}

/// OpenAPI 3.0 schema → JSON Schema draft 4.
#[derive(Default)]
struct Translator {
    /// References met, whose targets are still to be translated.
    wanted: BTreeSet<(String, Mode)>,
}

impl Translator {
    fn translate(&mut self, schema: &Value, mode: Mode) -> Value {
        let Some(schema) = schema.as_object() else { return json!({}) };
        if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
            self.wanted.insert((reference.to_owned(), mode));
            return json!({ "$ref": format!("#/definitions/{}", definition_name(reference, mode)) });
        }
        let mut out = Map::new();
        let nullable = schema.get("nullable") == Some(&json!(true));
        let has = |word: &str| schema.contains_key(word);
        for (word, value) in schema {
            match word.as_str() {
                // Words that mean the same in both. What is malformed for draft 4 is left out: it asserts nothing.
                "minimum" | "maximum" | "multipleOf" if value.is_number() => {
                    _ = out.insert(word.clone(), value.clone());
                }
                "minLength" | "maxLength" | "minItems" | "maxItems" | "minProperties" | "maxProperties"
                    if value.is_u64() =>
                {
                    _ = out.insert(word.clone(), value.clone());
                }
                "exclusiveMinimum" | "exclusiveMaximum" | "uniqueItems" if value.is_boolean() => {
                    _ = out.insert(word.clone(), value.clone());
                }
                "pattern" if value.is_string() => _ = out.insert(word.clone(), value.clone()),
                "required" if value.as_array().is_some_and(|names| !names.is_empty()) => {
                    _ = out.insert(word.clone(), value.clone());
                }
                // The only formats whose breach would break a reader; `email` is full of placeholders in examples.
                "format" if value == "date-time" || value == "date" => _ = out.insert(word.clone(), value.clone()),
                "type" => {
                    let known = ["string", "number", "integer", "boolean", "array", "object"];
                    if let Some(kind) = value.as_str().filter(|kind| known.contains(kind)) {
                        _ = out.insert(word.clone(), if nullable { json!([kind, "null"]) } else { json!(kind) });
                    }
                }
                "enum" => {
                    let mut values = value.as_array().cloned().unwrap_or_default();
                    if nullable && !values.contains(&Value::Null) {
                        values.push(Value::Null);
                    }
                    if !values.is_empty() {
                        _ = out.insert(word.clone(), Value::Array(values));
                    }
                }
                "items" => _ = out.insert(word.clone(), self.translate(value, mode)),
                "not" => _ = out.insert(word.clone(), self.translate(value, Mode::Open)),
                "properties" => {
                    let properties = value.as_object().into_iter().flatten();
                    let translated: Map<String, Value> =
                        properties.map(|(name, schema)| (name.clone(), self.translate(schema, mode))).collect();
                    _ = out.insert(word.clone(), Value::Object(translated));
                }
                "additionalProperties" => {
                    let translated = if value.is_boolean() { value.clone() } else { self.translate(value, mode) };
                    _ = out.insert(word.clone(), translated);
                }
                // A branch of `allOf` does not know the properties of the others, so it cannot be closed.
                "allOf" => _ = out.insert(word.clone(), self.branches(value, Mode::Open)),
                // Description writers say `oneOf` and mean "any of these": branches without `required` overlap.
                "anyOf" | "oneOf" => {
                    let inner = if has("properties") || has("allOf") { Mode::Open } else { mode };
                    let branches = self.branches(value, inner);
                    if out.contains_key("anyOf") {
                        let both = out.remove("anyOf");
                        out.insert("allOf".into(), json!([{ "anyOf": both }, { "anyOf": branches }]));
                    } else {
                        out.insert("anyOf".into(), branches);
                    }
                }
                _ => {}
            }
        }
        if mode == Mode::Closed
            && has("properties")
            && !["additionalProperties", "allOf", "anyOf", "oneOf"].iter().any(|word| has(word))
        {
            out.insert("additionalProperties".into(), json!(false));
        }
        if nullable && !has("type") {
            return json!({ "anyOf": [Value::Object(out), { "type": "null" }] });
        }
        Value::Object(out)
    }

    fn branches(&mut self, value: &Value, mode: Mode) -> Value {
        value.as_array().into_iter().flatten().map(|branch| self.translate(branch, mode)).collect()
    }
}

/// Collects the problems of one exchange.
struct Report {
    operation: String,
    status: u16,
    problems: Vec<Problem>,
}

impl Report {
    fn add(&mut self, part: Part, pointer: &str, message: String) {
        self.problems.push(Problem {
            operation: self.operation.clone(),
            part,
            status: self.status,
            pointer: pointer.to_owned(),
            message,
        });
    }
}

/// "Not valid under any of the schemas" helps nobody: tell what is wrong under the branch that fits best, if one went
/// deeper into the value than the others. Pointer and message of each.
fn innermost(error: &ValidationError<'_>) -> Vec<(String, String)> {
    let depth = |error: &ValidationError<'_>| error.instance_path().as_str().matches('/').count();
    if let ValidationErrorKind::AnyOf { context } = error.kind() {
        let deepest = |branch: &Vec<ValidationError<'static>>| branch.iter().map(&depth).max().unwrap_or(0);
        let best = context.iter().max_by_key(|branch| (deepest(branch), std::cmp::Reverse(branch.len())));
        if let Some(best) = best.filter(|branch| deepest(branch) > depth(error)) {
            // Recursion ends: a context is part of its error, which the validator has built already.
            return best.iter().flat_map(innermost).collect();
        }
    }
    vec![(error.instance_path().as_str().to_owned(), shorten(&error.to_string()))]
}

fn json_media_of(described: &Value) -> Option<&Value> {
    let content = described.get("content")?.as_object()?;
    content.iter().find(|(kind, _)| kind.contains("json")).map(|(_, media)| media)
}

fn json_schema_of(described: &Value) -> Option<&Value> {
    json_media_of(described)?.get("schema")
}

fn is_empty(body: &Value) -> bool {
    body.is_null() || body.as_object().is_some_and(Map::is_empty)
}

fn segments(path: &str) -> Vec<String> {
    path.trim_matches('/').split('/').map(str::to_owned).collect()
}

fn escape(part: &str) -> String {
    part.replace('~', "~0").replace('/', "~1")
}

/// `#/components/schemas/contact` → a flat name that needs no escaping inside a reference.
fn definition_name(reference: &str, mode: Mode) -> String {
    let flat: String = reference.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    match mode {
        Mode::Open => flat,
        Mode::Closed => format!("{flat}_closed"),
    }
}

fn shorten(text: &str) -> String {
    const LONGEST: usize = 400;
    if text.chars().count() <= LONGEST {
        return text.to_owned();
    }
    // The value comes first and the complaint last, so the middle goes.
    let head: String = text.chars().take(LONGEST / 2).collect();
    let tail: String = text.chars().skip(text.chars().count() - LONGEST / 2).collect();
    format!("{head} … {tail}")
}

fn folder() -> PathBuf {
    environment("LINKSPAN_SPECS")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/specs"), PathBuf::from)
}

#[expect(clippy::disallowed_methods, reason = "a test binary has no main of ours to read it and hand it on")]
fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
