//! Reads `.env` files for a check that compares the values with those of other readers.
//!
//! Standard input has a JSON list of `[path, variables of the process]`. For each, standard output gets the resulting
//! variables and the reasons of the file's problems.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use holodule_settings::overlay;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let cases: Vec<(PathBuf, BTreeMap<String, String>)> = serde_json::from_reader(io::stdin())?;
    let mut results = Vec::new();
    for (path, process) in cases {
        let read = overlay(process.into_iter().collect(), &path, &[]);
        let variables: BTreeMap<_, _> =
            read.environment.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let reasons: Vec<_> = read.problems.into_iter().map(|problem| problem.reason).collect();
        results.push((variables, reasons));
    }
    Ok(serde_json::to_writer(io::stdout(), &results)?)
}
