//! The process's environment, over the `.env` file beside it.

use std::collections::BTreeMap;
use std::path::Path;

use super::problem::Problem;

/// The environment as a plain map, so that two configurations can live in one process.
pub type Environment = BTreeMap<String, String>;

/// The process's environment over the `.env` file in the working directory, where there is
/// one, and what is wrong with that file. Its other lines count nevertheless, so that whatever
/// else is wrong can be told as well. No line is echoed, since it may hold a secret.
pub fn environment(dotenv: &Path) -> (Environment, Vec<Problem>) {
    let mut environment = Environment::new();
    let mut problems = Vec::new();
    let mut problem = |reason: String| problems.push(Problem { key: dotenv.display().to_string(), reason });
    match dotenvy::from_path_iter(dotenv) {
        Ok(lines) => {
            for line in lines {
                match line {
                    Ok((name, value)) => {
                        environment.insert(name, value);
                    }
                    Err(dotenvy::Error::LineParse(_, at)) => {
                        problem(format!("a line cannot be parsed (at its character {at})"));
                    }
                    Err(other) => {
                        problem(other.to_string());
                        // What cannot be read now cannot be read by asking again.
                        break;
                    }
                }
            }
        }
        Err(error) if error.not_found() => {}
        Err(error) => problem(error.to_string()),
    }
    // A variable that is not UTF-8 cannot be a setting of ours.
    environment.extend(std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))));
    (environment, problems)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_wrong_line_of_dotenv_is_told_without_its_text_and_the_others_count() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "FIRST = hush hush\nGOOD_OF_DOTENV=1\nhush\n").unwrap();
        let (environment, problems) = environment(file.path());
        assert_eq!(environment.get("GOOD_OF_DOTENV").map(String::as_str), Some("1"));
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(problems.iter().all(|problem| problem.reason.contains("line") && !problem.reason.contains("hush")));
    }

    #[test]
    fn a_dotenv_that_is_no_file_is_told_and_one_that_is_missing_is_none() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(environment(folder.path()).1.len(), 1);
        assert_eq!(environment(&folder.path().join("missing")).1, []);
    }
}
