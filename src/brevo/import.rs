//! The asynchronous bulk write, `POST /contacts/import`, and what becomes of it.
//!
//! It is fast and dangerous: it drops unknown attributes and `false` without a word, has flags for all rows only, and
//! calls itself completed with failed rows inside. So nothing in an import loosens a flag, and its reports are read.

use super::client::{self, Ask, BrevoClient, OTHER};
use super::{errors, read, schema, wire, write};
use crate::http::{Effect, lean, server_time};
use crate::model::{
    Answer, AttributeKind, ErrorKind, ImportBatch, ImportRow, ImportState, Priority, ProcessId, SideError, SideName,
    Value,
};
use bytes::Bytes;
use http::Method;
use serde::ser::{Serialize, SerializeMap as _, Serializer};
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;

/// The most processes that one page holds.
const PROCESSES_A_PAGE: u64 = 50;

/// The most rows that are taken from one report.
const MOST_REPORTED: usize = 200_000;

/// A row, written as it is: a tree of its own for each costs more than all else about it.
struct Row<'a>(&'a ImportRow, &'a BTreeMap<String, AttributeKind>);

impl Serialize for Row<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut row = to.serialize_map(Some(2))?;
        row.serialize_entry("email", self.0.email.as_str())?;
        row.serialize_entry("attributes", &RowAttributes(self))?;
        row.end()
    }
}

struct RowAttributes<'a>(&'a Row<'a>);

impl Serialize for RowAttributes<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let Row(row, kinds) = self.0;
        // An import does not turn an existing `true` into `false`; for a newcomer, absent says the same.
        let said = |(name, value): &(&String, &Value)| !schema::is_identifier(name) && **value != Value::Boolean(false);
        let attributes = row.attributes.iter().filter(said);
        let attributes = attributes.map(|(name, value)| (name.as_str(), schema::Wired(value, kinds.get(name))));
        let mut map = to.serialize_map(None)?;
        for (name, value) in attributes {
            map.serialize_entry(name, &value)?;
        }
        if let Some(ext_id) = &row.ext_id {
            map.serialize_entry("EXT_ID", ext_id)?;
        }
        map.end()
    }
}

/// Row after row into one text: a tree of all rows would take several times its memory.
fn body(rows: &[ImportRow], envelope: &Json, kinds: &BTreeMap<String, AttributeKind>) -> serde_json::Result<Bytes> {
    let mut text = Vec::with_capacity(rows.len() * 200);
    text.extend_from_slice(br#"{"jsonBody":["#);
    for (index, row) in rows.iter().enumerate() {
        if index > 0 {
            text.push(b',');
        }
        serde_json::to_writer(&mut text, &Row(row, kinds))?;
    }
    text.extend_from_slice(b"],");
    text.extend_from_slice(envelope.to_string().trim_start_matches('{').as_bytes());
    Ok(Bytes::from(text))
}

impl BrevoClient {
    pub(super) async fn start_import(&self, batch: &ImportBatch, priority: Priority) -> Result<Answer, Box<SideError>> {
        if batch.rows.is_empty() || batch.lists.is_empty() {
            let words = "an import needs rows, and a list to put them on: Brevo refuses one without";
            return Err(SideError::new(SideName::Brevo, ErrorKind::Rejected { field: None }, words));
        }
        let mut envelope = json!({
            "listIds": batch.lists,
            // Said though `true` is the default: `true` by accident overwrites contacts that we have not looked at.
            "updateExistingContacts": batch.update_existing,
            // Else every import e-mails the account's owner.
            "disableNotification": true,
        });
        // Only when it tightens: with `false`, rows that exist and opted out might be subscribed again.
        if batch.email_opted_out {
            envelope["emailBlacklist"] = true.into();
        }
        let body = self.with_kinds(|kinds| body(&batch.rows, &envelope, kinds)).map_err(|error| {
            SideError::new(SideName::Brevo, ErrorKind::Unsupported, format!("cannot write the rows as JSON: {error}"))
        })?;
        // Rows of contacts that exist may lift a blocklisting: they are not to wait long after it was read who has none. Whom
        // others make may say no meanwhile.
        let effect = if batch.update_existing { Effect::LoosensOnce } else { Effect::CreatesPerson };
        let ask = Ask::write(Method::POST, "/contacts/import", client::Json(body), effect, priority);
        let answer = self.send(ask).await?;
        let process = ProcessId::new(write::made(&answer, "processId")?);
        Ok(Answer::ImportStarted(process, server_time(answer.headers())))
    }

    pub(super) async fn read_import_states(
        &self,
        processes: &[ProcessId],
    ) -> Result<BTreeMap<ProcessId, ImportState>, Box<SideError>> {
        let mut states = BTreeMap::new();
        // All requests but those about contacts and events share 100 an hour: the newest fifty cost one. It is gone on
        // while that costs less than to ask for each of those that are left.
        let mut offset = 0;
        loop {
            let before = states.len();
            if processes.len() < before + 2 {
                break;
            }
            let target = format!("/processes?limit={PROCESSES_A_PAGE}&offset={offset}&sort=desc");
            let answer = self.send(Ask::get(target, OTHER, Priority::Live)).await?;
            let tree = read::json(&answer)?;
            let (rows, _) = wire::rows(tree.root(), "processes").ok_or_else(|| errors::malformed(&answer))?;
            for &row in &rows {
                let id = row.get("id").and_then(wire::whole).map(ProcessId::new);
                if let Some(id) = id.filter(|id| processes.contains(id)) {
                    states.insert(id, state(row));
                }
            }
            offset += PROCESSES_A_PAGE;
            if states.len() == before || (rows.len() as u64) < PROCESSES_A_PAGE {
                break;
            }
        }
        for process in processes {
            if states.contains_key(process) {
                continue;
            }
            match self.send(Ask::get(format!("/processes/{process}"), OTHER, Priority::Live)).await {
                Ok(answer) => {
                    states.insert(*process, state(read::json(&answer)?.root()));
                }
                Err(error) if error.kind == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(states)
    }

    pub(super) async fn read_import_report(&self, url: &str) -> Result<Vec<String>, Box<SideError>> {
        let unsafe_url = || {
            let words = "the address of an import's report is neither https nor on this machine";
            SideError::new(SideName::Brevo, ErrorKind::Malformed, words)
        };
        let url = url::Url::parse(url).map_err(|_| unsafe_url())?;
        let loopback = match url.host() {
            Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
            Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
            Some(url::Host::Domain(name)) => name == "localhost",
            None => false,
        };
        if url.scheme() != "https" && !(url.scheme() == "http" && loopback) {
            return Err(unsafe_url());
        }
        Ok(report(&self.download(&url).await?))
    }
}

/// How an import is doing. States that came later count as still running: the engine bounds how long it asks.
fn state(process: lean::Json<'_>) -> ImportState {
    let completed = match wire::text(process, "status").unwrap_or_default() {
        "completed" => true,
        "failed" | "cancelled" | "canceled" => false,
        _ => return ImportState::Running,
    };
    let reports = process.get("info").and_then(|info| info.get("import"));
    let reports = reports.into_iter().flat_map(lean::Json::members).filter_map(|(reason, url)| {
        url.as_str().filter(|url| !url.trim().is_empty()).map(|url| (reason.to_owned(), url.to_owned()))
    });
    ImportState::Finished { completed, reports: reports.collect() }
}

/// Per row of a report, its first cell that looks like an address or else like a phone number. Headings have neither.
fn report(csv: &[u8]) -> Vec<String> {
    let first_line = csv.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let columns = |delimiter: u8| first_line.split(|byte| *byte == delimiter).count();
    let delimiter = if columns(b';') >= columns(b',') { b';' } else { b',' };
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .delimiter(delimiter)
        .trim(csv::Trim::All)
        .from_reader(csv);
    let mut found = Vec::new();
    let mut record = csv::ByteRecord::new();
    // A row that is not CSV ends the report: what follows it cannot be told apart.
    while found.len() < MOST_REPORTED && reader.read_byte_record(&mut record).unwrap_or(false) {
        let cells: Vec<String> = record.iter().map(|cell| String::from_utf8_lossy(cell).into_owned()).collect();
        // Also malformed ones: those are what the report of invalid addresses lists.
        let address = cells.iter().find(|cell| cell.contains('@'));
        if let Some(cell) = address.or_else(|| cells.iter().find(|cell| looks_like_a_phone(cell))) {
            found.push(cell.trim_start_matches('\u{feff}').to_owned());
        }
    }
    found
}

fn looks_like_a_phone(cell: &str) -> bool {
    let digits = cell.chars().filter(char::is_ascii_digit).count();
    (7..=15).contains(&digits) && cell.chars().all(|c| c.is_ascii_digit() || "+ -.()".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Email, Fields};

    fn state(process: &Json) -> ImportState {
        super::state(lean::Tree::from(process).root())
    }

    #[test]
    fn the_body_is_one_json_text() {
        let row = |number: usize| ImportRow {
            email: Email::parse(&format!("p{number}@example.com")).unwrap(),
            ext_id: None,
            attributes: Fields::from([("NOTE".to_owned(), Value::Text("\"x\"\n".to_owned()))]),
        };
        let envelope = json!({"listIds": [3], "updateExistingContacts": false});
        for rows in [vec![], vec![row(1)], vec![row(1), row(2)]] {
            let body: Json = serde_json::from_slice(&body(&rows, &envelope, &BTreeMap::new()).unwrap()).unwrap();
            assert_eq!(body["jsonBody"].as_array().unwrap().len(), rows.len());
            assert_eq!((&body["listIds"], &body["updateExistingContacts"]), (&json!([3]), &json!(false)));
        }
    }

    #[test]
    fn a_row_carries_its_external_id_and_no_false() {
        let attributes = Fields::from([
            ("NEWSLETTER".to_owned(), Value::Boolean(false)),
            ("VIP".to_owned(), Value::Boolean(true)),
            ("EMAIL".to_owned(), Value::Text("other@example.com".to_owned())),
        ]);
        let row =
            ImportRow { email: Email::parse("p1@example.com").unwrap(), attributes, ext_id: Some("u-1".to_owned()) };
        let wired = serde_json::to_value(Row(&row, &BTreeMap::new())).unwrap();
        assert_eq!(wired, json!({"email": "p1@example.com", "attributes": {"VIP": true, "EXT_ID": "u-1"}}));
    }

    #[test]
    fn completed_may_mean_failed_rows_and_new_states_mean_wait() {
        let process = json!({"id":217,"name":"IMPORTUSER","status":"completed","info":{"import":{"invalid_emails":"https://x.test/1.csv","duplicate_ext_id":null,"duplicate_phone_id":""}}});
        let ImportState::Finished { completed: true, reports } = state(&process) else { panic!() };
        assert_eq!(reports, BTreeMap::from([("invalid_emails".to_owned(), "https://x.test/1.csv".to_owned())]));
        for running in ["queued", "in_process", "processing", "pondering"] {
            assert_eq!(state(&json!({ "status": running })), ImportState::Running);
        }
        assert_eq!(state(&json!({})), ImportState::Running);
        for over in ["failed", "cancelled"] {
            assert!(matches!(
                state(&json!({"status": over, "info": null})),
                ImportState::Finished { completed: false, .. }
            ));
        }
    }

    #[test]
    fn a_report_names_its_rows() {
        assert_eq!(report(b"EMAIL;NAME\na@x.example;A\n\"b@@x\";B\n;C\n"), ["a@x.example", "b@@x"]);
        assert_eq!(report(b"CONTACT ID,SMS,EMAIL\n12,33612345678,\n13,,c@x.example\n"), ["33612345678", "c@x.example"]);
        assert_eq!(report("\u{feff}d@x.example\n".as_bytes()), ["d@x.example"]);
        assert!(report(b"").is_empty());
        assert!(report(b"\"never closed").is_empty());
        assert!(report(&[0xff, 0xfe, 0x00, b'\n']).is_empty());
    }
}
