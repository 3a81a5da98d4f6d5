//! `POST /companies/import`: a CSV file as a multipart upload, and a number of a process as its answer. It tells neither
//! ids nor which rows it left out: that is read back.

use super::super::client::{Ask, BrevoClient, Json, OTHER};
use super::super::{errors, wire};
use super::{CompanyAttributes, to_wire};
use crate::http::lean::Tree;
use crate::http::{Effect, server_time};
use crate::model::{Answer, BrevoCompanyId, ErrorKind, NewCompany, Priority, ProcessId, SideError, SideName};
use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// The column that links contacts. Which form it takes is not described: ids, separated by commas. What is read back tells
/// who is still to be linked.
const CONTACTS: &str = "associated_contact";
/// The column that says which company is to be changed.
const ID: &str = "company_id";

impl BrevoClient {
    pub(in super::super) async fn import_companies(
        &self,
        companies: &[CompanyRow],
        priority: Priority,
    ) -> Result<Answer, Box<SideError>> {
        let csv = self.with_company_attributes(|known| csv(companies, known)).ok_or_else(|| {
            let kind = ErrorKind::Rejected { field: None };
            SideError::new(SideName::Brevo, kind, "no companies to import, or none that a file can hold")
        })?;
        let updates = companies.iter().all(|(id, _)| id.is_some());
        let options = json!({
            "link_entities": true,
            "unlink_entities": false,
            // By their ids; else every row is a new company, whatever is there.
            "update_existing_records": updates,
            "unset_empty_attributes": false,
        });
        let (boundary, body) = multipart(&csv, &options.to_string());
        let mut ask =
            Ask::write(Method::POST, "/companies/import", Json(body), Effect::Creates, priority).family(OTHER);
        ask.content_type = Some(format!("multipart/form-data; boundary={boundary}"));
        let answer = self.send(ask).await?;
        let process = Tree::from_slice(answer.body()).ok();
        match process.as_ref().and_then(|process| process.root().get("processId")).and_then(wire::whole) {
            Some(process) => Ok(Answer::ImportStarted(ProcessId::new(process), server_time(answer.headers()))),
            None => Err(errors::unreadable_success(&answer)),
        }
    }
}

/// A company with its id, if it is there already.
type CompanyRow = (Option<BrevoCompanyId>, NewCompany);

/// One row a company, under Brevo's own names for the attributes.
fn csv(companies: &[CompanyRow], known: &CompanyAttributes) -> Option<Vec<u8>> {
    let columns: BTreeSet<&String> = companies.iter().flat_map(|(_, company)| company.attributes.keys()).collect();
    let updates = companies.iter().any(|(id, _)| id.is_some());
    if companies.is_empty() || (columns.is_empty() && !updates) {
        return None;
    }
    let mut writer = csv::Writer::from_writer(Vec::new());
    let internal = |name: &&String| {
        known.get(name.as_str()).map_or_else(|| name.to_lowercase(), |attribute| attribute.internal.clone())
    };
    let heads = updates.then(|| ID.to_owned()).into_iter();
    let heads = heads.chain(columns.iter().map(internal)).chain([CONTACTS.to_owned()]);
    writer.write_record(heads).ok()?;
    for (id, company) in companies {
        let id = updates.then(|| id.as_ref().map_or_else(String::new, ToString::to_string)).into_iter();
        let cells = columns.iter().map(|name| match company.attributes.get(*name) {
            None => String::new(),
            value => in_a_cell(&to_wire(value, known.get(name.as_str()))),
        });
        let contacts: Vec<String> = company.contacts.iter().map(ToString::to_string).collect();
        writer.write_record(id.chain(cells).chain([contacts.join(",")])).ok()?;
    }
    writer.into_inner().ok()
}

fn in_a_cell(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(in_a_cell).collect::<Vec<_>>().join(","),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// The two parts, and what stands between them: something that the file does not hold.
fn multipart(csv: &[u8], options: &str) -> (String, Bytes) {
    let text = String::from_utf8_lossy(csv);
    let mut number = 0_u64;
    let boundary = loop {
        let boundary = format!("linkspan-{number:016x}");
        if !text.contains(&boundary) {
            break boundary;
        }
        number += 1;
    };
    let mut body = Vec::with_capacity(csv.len() + 512);
    let part = |body: &mut Vec<u8>, head: &str, content: &[u8]| {
        body.extend_from_slice(format!("--{boundary}\r\nContent-Disposition: form-data; {head}\r\n\r\n").as_bytes());
        body.extend_from_slice(content);
        body.extend_from_slice(b"\r\n");
    };
    part(&mut body, "name=\"mapping\"", options.as_bytes());
    part(&mut body, "name=\"file\"; filename=\"companies.csv\"\r\nContent-Type: text/csv", csv);
    body.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
    (boundary, Bytes::from(body))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{BrevoContactId, Fields, Value as Field};

    #[test]
    fn a_row_holds_what_a_company_has_and_the_boundary_is_no_part_of_it() {
        let text = |text: &str| Field::Text(text.to_owned());
        let company = |name: &str, more: &[(&str, Field)], contacts: &[i64]| NewCompany {
            attributes: std::iter::once(("NAME".to_owned(), text(name)))
                .chain(more.iter().map(|(name, value)| ((*name).to_owned(), value.clone())))
                .collect::<Fields>(),
            contacts: contacts.iter().copied().map(BrevoContactId::new).collect(),
        };
        let companies = [
            company("Acme, \"Inc\"", &[("SIZE", Field::Number(crate::model::Number::Whole(3)))], &[2, 1]),
            company("linkspan-0000000000000000", &[], &[]),
        ];
        let companies = companies.map(|company| (None, company));
        let csv = csv(&companies, &CompanyAttributes::new()).unwrap();
        assert_eq!(
            String::from_utf8(csv.clone()).unwrap(),
            "name,size,associated_contact\n\"Acme, \"\"Inc\"\"\",3,\"1,2\"\nlinkspan-0000000000000000,,\n"
        );
        let known = (Some(BrevoCompanyId::new("6a")), company("Acme", &[], &[7]));
        assert_eq!(
            super::csv(&[known], &CompanyAttributes::new()).unwrap(),
            b"company_id,name,associated_contact\n6a,Acme,7\n"
        );
        let (boundary, body) = multipart(&csv, "{}");
        assert_eq!(boundary, "linkspan-0000000000000001");
        let body = String::from_utf8(body.to_vec()).unwrap();
        assert!(body.starts_with(
            "--linkspan-0000000000000001\r\nContent-Disposition: form-data; name=\"mapping\"\r\n\r\n{}\r\n"
        ));
        assert!(body.ends_with("\r\n--linkspan-0000000000000001--\r\n"));
        assert!(super::csv(&[], &CompanyAttributes::new()).is_none());
    }
}
