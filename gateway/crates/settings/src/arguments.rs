//! Errors of the command line without values.

use clap::Error;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::echo::shown_key;

/// Removes possible secrets from `error`: a password where no argument belongs, or a key instead of the path of its
/// file.
#[must_use]
pub fn without_secrets(mut error: Error) -> Error {
    for kind in [ContextKind::InvalidValue, ContextKind::InvalidSubcommand] {
        replace(&mut error, kind, shown_key);
    }
    if error.kind() == ErrorKind::UnknownArgument {
        replace(&mut error, ContextKind::InvalidArg, |text| match text.split('=').next() {
            Some(name) if name.starts_with('-') => shown_key(name),
            // It is unknown what it is meant to be.
            _ => "(an argument that is not shown)".to_owned(),
        });
        // The suggestion would repeat the same text.
        error.remove(ContextKind::Suggested);
    }
    error
}

/// A whole number of seconds, for an option.
///
/// # Errors
/// What it must be.
pub fn whole_seconds(text: &str) -> Result<u64, &'static str> {
    text.parse().map_err(|_| "must be a whole number of seconds")
}

fn replace(error: &mut Error, kind: ContextKind, shown: impl Fn(&str) -> String) {
    let shown = match error.get(kind) {
        Some(ContextValue::String(text)) => ContextValue::String(shown(text)),
        Some(ContextValue::Strings(texts)) => ContextValue::Strings(texts.iter().map(|text| shown(text)).collect()),
        _ => return,
    };
    error.insert(kind, shown);
}

#[cfg(test)]
mod tests {
    use clap::{Arg, Command};

    use super::*;

    #[test]
    fn an_error_contains_the_option_and_no_secret() {
        let parse = |arguments: &[&str]| {
            let number = Arg::new("number").long("number").value_parser(clap::value_parser!(u16));
            let command = Command::new("program").arg(number).subcommand(Command::new("serve").arg(Arg::new("name")));
            let error = command.try_get_matches_from([&["program"], arguments].concat()).unwrap_err();
            without_secrets(error).to_string()
        };
        for arguments in [
            &["--number", "hu$h"][..],
            &["--number=hush-1hush2hush3"],
            &["--hu$h=hu$h"],
            &["hu$h"],
            &["serve", "user01", "hush"],
            &["serve", "user01", "-hush=hush"],
        ] {
            let text = parse(arguments);
            assert!(!text.contains("hush") && !text.contains("hu$h"), "{text}");
        }
        assert!(parse(&["--number", "x"]).contains("invalid value 'x' for '--number <number>'"));
        assert!(parse(&["--nummer", "1"]).contains("'--nummer'"));
        assert!(parse(&["sirve"]).contains("'sirve'"));
    }
}
