//! Detects variables that are probably misspelt keys.

/// Whether the variable `name` is probably meant to be `known`: one character is missing, wrong, additional or swapped
/// with its neighbour, or the case differs.
pub(crate) fn is_misspelt(name: &str, known: &str) -> bool {
    // Many other variables have names similar to short ones.
    if EXPORTED_BY_SHELLS.contains(&name)
        || known.len() < 5
        || name.contains(|c: char| !c.is_ascii_alphanumeric() && c != '_')
    {
        return false;
    }
    let (name, known) = (name.to_ascii_uppercase().into_bytes(), known.as_bytes());
    let same = name.iter().zip(known).take_while(|(a, b)| a == b).count();
    let (name, known) = (name.get(same..).unwrap_or_default(), known.get(same..).unwrap_or_default());
    let without_first = |text: &'_ [u8], count: usize| text.get(count..).map(<[u8]>::to_vec);
    let swapped = matches!((name, known), ([a, b, ..], [c, d, ..]) if a == d && b == c);
    name == known
        || without_first(name, 1).as_deref() == Some(known)
        || without_first(known, 1).as_deref() == Some(name)
        || (!name.is_empty() && without_first(name, 1) == without_first(known, 1))
        || (swapped && without_first(name, 2) == without_first(known, 2))
}

/// Variables of shells and systems that differ from a known one by one character.
const EXPORTED_BY_SHELLS: [&str; 1] = ["HOST"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_typo_is_one_character() {
        for name in ["HTTPS_ADR", "HTTPS_ADDRX", "XHTTPS_ADDR", "HTTPS-ADDR", "HTTPX_ADDR", "HTTSP_ADDR", "https_addr"]
        {
            let is_name = !name.contains('-');
            assert_eq!(is_misspelt(name, "HTTPS_ADDR"), is_name, "{name}");
        }
        for name in ["HTTP_ADR", "HTTPS_ADDRXX", "ADDR", "", "HTTPS_DDAR_"] {
            assert!(!is_misspelt(name, "HTTPS_ADDR"), "{name}");
        }
        assert!(!is_misspelt("HOST", "HOSTS") && !is_misspelt("KEYS", "KEY"));
    }
}
