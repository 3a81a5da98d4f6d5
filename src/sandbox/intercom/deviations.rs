//! Where the real API is not as its own description (2.11) says.

/// (`METHOD /path` or `*`, JSON pointer with `*` for any index, or a keyword; the fact).
pub const DEVIATIONS: &[(&str, &str, &str)] = &[];
