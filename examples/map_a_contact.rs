//! A mapping by hand: YAML is compiled, and one contact goes through it. Pure: no account, no network, no clock.
//!
//! ```console
//! $ cargo run --example map_a_contact
//! FIRSTNAME = "Ludwig"
//! LASTNAME = "van Beethoven"
//! COUNTRY = "GERMANY"
//! SEATS = 12
//! ```

#![expect(clippy::print_stdout, reason = "a program whose result is what it prints")]

use linkspan::mapping::{self, Projection, Section};
use linkspan::model::{Fields, Value};

/// As in a config or a mapping file; `mappings/` has more.
pub const MAPPING: &str = "
field_mapping:
  name:
    to: [FIRSTNAME, LASTNAME]
    transform: split_name
  location.country:
    to: COUNTRY
    transform: upper
  custom_attributes.seats: {to: SEATS, type: number}
";

/// Which attribute becomes what; `None`: it is cleared, or stays empty.
///
/// # Errors
/// Everything that is wrong with the YAML, and what cannot be done with the record.
pub fn map(yaml: &str, record: &Fields) -> anyhow::Result<Vec<(String, Option<Value>)>> {
    let section = Section { file: 0, path: Vec::new(), value: serde_yaml::from_str(yaml)? };
    let options = mapping::Options { api_version: "2.11".to_owned(), ..mapping::Options::default() };
    // All mistakes at once, each with its place and the nearest valid name.
    let mapping = mapping::parse(&[section], &options, &|_, _, _| None).map_err(|errors| {
        anyhow::anyhow!(errors.iter().map(|error| error.message.clone()).collect::<Vec<_>>().join("; "))
    })?;
    // Fits the mapping to a Brevo account: here to one that has no attributes yet.
    let resolution = mapping.resolve(&[], &[]);
    let mut cells = Vec::new();
    for rule in &resolution.mapping.rules {
        match rule.project(record) {
            Projection::Cells(values) => {
                cells.extend(rule.targets.iter().map(|target| target.attribute.clone()).zip(values));
            }
            // The rule's `when` does not hold for this record.
            Projection::NotApplicable => {}
            Projection::Problem(problem) => anyhow::bail!("{}: {}", rule.key, problem.message),
        }
    }
    Ok(cells)
}

/// A contact's fields by their paths, as the Intercom client reads them.
pub fn contact() -> Fields {
    [
        ("name", Value::text("Ludwig van Beethoven")),
        ("location.country", Value::text("Germany")),
        ("custom_attributes.seats", Value::from_json(&serde_json::json!(12))),
    ]
    .into_iter()
    .filter_map(|(path, value)| Some((path.to_owned(), value?)))
    .collect()
}

/// Maps the contact.
pub fn main() -> anyhow::Result<()> {
    for (attribute, value) in map(MAPPING, &contact())? {
        println!("{attribute} = {}", value.map_or(serde_json::Value::Null, |value| value.to_json()));
    }
    Ok(())
}
