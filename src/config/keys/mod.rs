//! Every key a config may have, as one table. The walker checks a document against it, and the JSON Schema is written
//! from it, so that what an editor completes and what the program accepts cannot drift apart.

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
    /// Whether this version honours it.
    works: bool,
}

/// The name nearest to what was written, if one is near enough to be meant.
pub(super) fn nearest<'a>(written: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |name: &str| name.to_lowercase().replace(['-', '_', ' '], "");
    let written = plain(written);
    let allowed = (written.chars().count() / 3).clamp(1, 4);
    names
        .map(|name| (strsim::damerau_levenshtein(&written, &plain(name)), name))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn a_slip_is_recognised_and_a_stranger_is_not() {
        let names = ["access_token", "api_version", "region"];
        for slip in ["acess_token", "accessToken", "access-token", "access_tokne"] {
            assert_eq!(nearest(slip, names.into_iter()), Some("access_token"), "{slip}");
        }
        for stranger in ["webhook", "x", "", "colour"] {
            assert_eq!(nearest(stranger, names.into_iter()), None, "{stranger}");
        }
    }
}
