//! Every key a config may have, as one table. The walker checks a document against it, and the JSON Schema is written
//! from it, so that what an editor completes and what the program accepts cannot drift apart.

mod every;
mod schema;
mod table;
mod values;
mod walk;

pub(super) use schema::schema;
pub(super) use values::Leaf;
pub(super) use walk::{Walk, walk};

#[cfg(test)]
pub(super) use table::paths;

/// One key of a block.
#[derive(Debug)]
pub(super) struct Key {
    /// As it is written.
    name: &'static str,
    /// What may stand behind it.
    kind: Kind,
    /// What it does, for the schema.
    doc: &'static str,
    /// What holds without it, as one would write it.
    default: Option<&'static str>,
}

/// What may stand behind a key.
#[derive(Debug)]
pub(super) enum Kind {
    /// A block of keys.
    Block(&'static [Key]),
    /// `true` or `false`.
    Flag,
    /// A token or key: never shown.
    Secret,
    /// One of a few words.
    Choice(&'static [Choice]),
    /// A whole number from the first to the second.
    Count(u64, u64),
    /// A share of a whole: from more than 0 (or, if so said, 0) to 1.
    Share {
        /// Whether 0 means something.
        zero: bool,
    },
    /// `5m`, `24h`.
    Duration,
    /// `5m`, a cron line, or `never`.
    Every,
    /// An IANA timezone.
    Timezone,
    /// A country, by its two letters.
    Country,
    /// A name on one line.
    Name,
    /// A condition in MiniJinja's words.
    Condition,
    /// The name of an HTTP header.
    Header,
    /// Intercom's API version.
    ApiVersion,
    /// The address of an API.
    Url,
    /// An address and port to listen on.
    Address,
    /// A file that we write.
    Path,
    /// Files that we read: mappings.
    MappingFiles,
    /// A Brevo list, by id or name.
    List,
    /// A block in the mapping language, which is read elsewhere.
    Mapping,
    /// A key that means something, but not yet; the reason is shown.
    Later(&'static str),
    /// A key that cannot mean anything; the reason is shown.
    Never(&'static str),
}

/// One of a few words.
#[derive(Debug)]
pub(super) struct Choice {
    /// As it is written.
    word: &'static str,
}
