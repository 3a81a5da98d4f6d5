//! A full name in two parts.

/// Words that begin a family name ("van Beethoven", "del Carmen García").
const PARTICLES: &[&str] = &[
    "af", "al", "ap", "av", "aw", "bar", "bat", "ben", "bin", "bint", "d'", "da", "dal", "dalla", "das", "de", "degli",
    "dei", "del", "dela", "della", "delle", "den", "der", "des", "di", "do", "dos", "du", "e", "el", "ibn", "l'", "la",
    "las", "le", "los", "lo", "mac", "mc", "ter", "ten", "und", "van", "vande", "vanden", "vander", "vom", "von", "y",
    "zu", "zum", "zur", "'t", "’t", "op", "van't", "st.", "saint", "san", "santa",
];

/// First and last name. A single word is a first name. The last name starts at the first particle after the first
/// word, else at the last word; so that the two joined by a space are the name again (white space aside).
pub fn split(name: &str) -> (String, Option<String>) {
    let words: Vec<&str> = name.split_whitespace().collect();
    let Some(last) = words.len().checked_sub(1).filter(|last| *last > 0) else {
        return (words.join(" "), None);
    };
    let is_particle = |word: &str| PARTICLES.contains(&word.to_lowercase().as_str());
    // "Family, Given" is how some tools export names.
    if let Some((family, given)) = name.split_once(',') {
        let (family, given) =
            (family.split_whitespace().collect::<Vec<_>>(), given.split_whitespace().collect::<Vec<_>>());
        if !family.is_empty() && !given.is_empty() && !given.iter().any(|word| word.contains(',')) {
            return (given.join(" "), Some(family.join(" ")));
        }
    }
    let start = (1..last).find(|&index| words.get(index).is_some_and(|word| is_particle(word))).unwrap_or(last);
    let (first, rest) = words.split_at(start);
    (first.join(" "), Some(rest.join(" ")))
}
