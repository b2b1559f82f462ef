//! The process's environment, over the `.env` file beside it.

use std::collections::BTreeMap;
use std::path::Path;

use crate::problem::Problem;
use crate::secret::exposed;

/// The environment as a plain map, so that two configurations can live in one process.
pub type Environment = BTreeMap<String, String>;

/// The process's environment over a `.env` file, and what was found in reading that.
#[derive(Debug)]
pub struct Overlaid {
    /// What the program reads its settings from.
    pub environment: Environment,
    /// What is wrong with the file. Its other lines count nevertheless, so that whatever else is
    /// wrong can be told as well. No line is echoed, since it may hold a secret.
    pub problems: Vec<Problem>,
    /// That the file holds a secret which others can get at, also where the process's own
    /// environment has another.
    pub warning: Option<String>,
}

/// Reads the process's environment over the `.env` file at `dotenv`, where there is one. `secrets`
/// are the variables that hold secrets.
pub fn environment(dotenv: &Path, secrets: &[&str]) -> Overlaid {
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
    let holds_secret = secrets.iter().any(|name| environment.contains_key(*name));
    let warning = if holds_secret { exposed(dotenv) } else { None };
    // A variable that is not UTF-8 cannot be a setting of ours.
    environment.extend(std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))));
    Overlaid { environment, problems, warning }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn each_wrong_line_of_dotenv_is_told_without_its_text_and_the_others_count() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "FIRST = hush hush\nGOOD_OF_DOTENV=1\nhush\n").unwrap();
        let Overlaid { environment, problems, warning } = environment(file.path(), &["JWT_SECRET_KEY", "KEY"]);
        assert_eq!(environment.get("GOOD_OF_DOTENV").map(String::as_str), Some("1"));
        assert_eq!((problems.len(), warning), (2, None), "{problems:?}");
        assert!(problems.iter().all(|problem| problem.reason.contains("line") && !problem.reason.contains("hush")));
    }

    #[test]
    fn a_dotenv_that_is_no_file_is_told_and_one_that_is_missing_is_none() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(environment(folder.path(), &[]).problems.len(), 1);
        assert_eq!(environment(&folder.path().join("missing"), &[]).problems, []);
    }

    #[test]
    fn a_dotenv_with_a_secret_is_warned_of_where_others_can_read_it() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for (text, mode, warns) in [
            ("JWT_SECRET_KEY=hush\n", 0o644, true),
            ("KEY='[{ kid = \"a\", secret = \"hush\" }]'\n", 0o644, true),
            ("JWT_SECRET_KEY=hush\n", 0o600, false),
            ("JWT_SECRET_KEY_FILE=/run/key\nLOG_LEVEL=info\n", 0o644, false),
        ] {
            std::fs::write(file.path(), text).unwrap();
            std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(mode)).unwrap();
            let warning = environment(file.path(), &["JWT_SECRET_KEY", "KEY"]).warning;
            let expected =
                format!("{} holds a secret and can be read by every user of this machine", file.path().display());
            assert_eq!(warning, warns.then_some(expected), "{text}");
        }
    }
}
