//! A full name in two parts.

/// Words that begin a family name ("van Beethoven", "del Carmen García").
const PARTICLES: &[&str] = &[
    "af", "al", "ap", "av", "aw", "bar", "bat", "ben", "bin", "bint", "d'", "da", "dal", "dalla", "das", "de", "degli",
    "dei", "del", "dela", "della", "delle", "den", "der", "des", "di", "do", "dos", "du", "e", "el", "ibn", "l'", "la",
    "las", "le", "los", "lo", "mac", "mc", "ter", "ten", "und", "van", "vande", "vanden", "vander", "vom", "von", "y",
    "zu", "zum", "zur", "'t", "’t", "op", "van't", "st.", "saint", "san", "santa",
];

/// Words that follow a family name and belong to it.
const SUFFIXES: &[&str] = &["jr", "jr.", "sr", "sr.", "ii", "iii", "iv"];

/// First and last name. A single word is a first name. The last name starts at the first particle after the first
/// word, else at the last word; a name that begins with a particle in lower case is a last name and nothing else. So the
/// parts that are there, joined by a space, are the name again (white space aside).
pub fn split(name: &str) -> (Option<String>, Option<String>) {
    let words: Vec<&str> = name.split_whitespace().collect();
    let Some(last) = words.len().checked_sub(1).filter(|last| *last > 0) else {
        return (words.first().map(|word| (*word).to_owned()), None);
    };
    // "Family, Given" is how some tools export names.
    if let Some((family, given)) = name.split_once(',') {
        let tidy = |part: &str| part.split_whitespace().collect::<Vec<_>>().join(" ");
        let (family, given) = (tidy(family), tidy(given));
        let suffix = SUFFIXES.contains(&given.to_lowercase().as_str());
        if !family.is_empty() && !given.is_empty() && !given.contains(',') && !suffix {
            return (Some(given), Some(family));
        }
    }
    if begins_with_family(&words) {
        return (None, Some(words.join(" ")));
    }
    // A single capital is somebody's middle initial, not "e" or "y".
    let is_particle = |word: &str| {
        let initial = word.chars().count() == 1 && word.chars().all(char::is_uppercase);
        !initial && PARTICLES.contains(&word.to_lowercase().as_str())
    };
    let suffix = last > 1 && words.last().is_some_and(|word| SUFFIXES.contains(&word.to_lowercase().as_str()));
    let family = if suffix { last - 1 } else { last };
    let start = (1..family).find(|&index| words.get(index).is_some_and(|word| is_particle(word))).unwrap_or(family);
    let (first, rest) = words.split_at(start);
    (Some(first.join(" ")), Some(rest.join(" ")))
}

/// "van Dyk", "de la Cruz": no given name is there. Only the case tells them from people called Van, Al or Ben, and it
/// tells nothing in a name that was typed without any capital. A single letter is an initial.
fn begins_with_family(words: &[&str]) -> bool {
    let Some((first, rest)) = words.split_first() else { return false };
    first.chars().count() > 1
        && PARTICLES.contains(first)
        && rest.iter().any(|word| word.chars().any(char::is_uppercase))
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn names_of_many_kinds() {
        for (name, first, last) in [
            ("Cher", "Cher", ""),
            ("  Ada   Lovelace ", "Ada", "Lovelace"),
            ("Ludwig van Beethoven", "Ludwig", "van Beethoven"),
            ("María del Carmen García", "María", "del Carmen García"),
            ("Charles de Gaulle", "Charles", "de Gaulle"),
            ("Vincent Van Gogh", "Vincent", "Van Gogh"),
            ("Ursula von der Leyen", "Ursula", "von der Leyen"),
            ("John E Smith", "John E", "Smith"),
            ("José Ortega y Gasset", "José Ortega", "y Gasset"),
            ("Martin Luther King Jr.", "Martin Luther", "King Jr."),
            ("King, Martin Luther", "Martin Luther", "King"),
            ("Sammy Davis, Jr.", "Sammy", "Davis, Jr."),
            ("Jean-Luc Picard", "Jean-Luc", "Picard"),
            ("Αριστοτέλης Ωνάσης", "Αριστοτέλης", "Ωνάσης"),
            ("山田 太郎", "山田", "太郎"),
            ("王小明", "王小明", ""),
            ("Van Morrison", "Van", "Morrison"),
            ("van Dyk", "", "van Dyk"),
            ("de la Cruz", "", "de la Cruz"),
            ("  von  der Leyen ", "", "von der Leyen"),
            ("'t Hooft", "", "'t Hooft"),
            ("van Dyk Jr.", "", "van Dyk Jr."),
            ("de Vries, Jan", "Jan", "de Vries"),
            // In capitals they are given names as likely as not.
            ("Al Pacino", "Al", "Pacino"),
            ("Ben Stiller", "Ben", "Stiller"),
            ("Di Caprio", "Di", "Caprio"),
            ("DE LA CRUZ", "DE", "LA CRUZ"),
            // Typed without capitals: the case says nothing.
            ("ben stiller", "ben", "stiller"),
            ("van morrison", "van", "morrison"),
            ("e Smith", "e", "Smith"),
            ("van", "van", ""),
            (" ", "", ""),
        ] {
            let part = |text: &str| (!text.is_empty()).then(|| text.to_owned());
            assert_eq!(split(name), (part(first), part(last)), "{name}");
        }
    }
}
