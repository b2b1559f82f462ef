//! The process's environment, with defaults from a `.env` file.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use crate::bounded;
use crate::dotenv;
use crate::echo::shown_path;
use crate::problem::Problem;
use crate::secret::exposed;

/// The environment as a map, so that two configurations can exist in one process. `Debug` shows neither values nor
/// names: in a broken `.env`, part of a secret may have become a name.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Environment {
    variables: BTreeMap<String, Variable>,
    /// Whether part of `.env` could not be read, so that missing variables may have been in it.
    incomplete: bool,
}

#[derive(Clone, PartialEq, Eq)]
struct Variable {
    value: String,
    from_dotenv: bool,
}

impl Environment {
    /// An empty environment.
    pub fn new() -> Self {
        Self::default()
    }

    /// The value of the variable `name`.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(|variable| variable.value.as_str())
    }

    /// Whether there is a variable `name`.
    pub fn contains_key(&self, name: &str) -> bool {
        self.variables.contains_key(name)
    }

    /// The variables, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.variables.iter().map(|(name, variable)| (name.as_str(), variable.value.as_str()))
    }

    /// Sets a variable of the process.
    pub fn insert(&mut self, name: String, value: String) {
        self.variables.insert(name, Variable { value, from_dotenv: false });
    }

    /// Whether the variable `name` is from the `.env` file.
    pub(crate) fn is_from_dotenv(&self, name: &str) -> bool {
        self.variables.get(name).is_some_and(|variable| variable.from_dotenv)
    }

    pub(crate) fn is_incomplete(&self) -> bool {
        self.incomplete
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.variables.keys().map(String::as_str)
    }
}

impl FromIterator<(String, String)> for Environment {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(variables: I) -> Self {
        let mut environment = Self::new();
        environment.extend(variables);
        environment
    }
}

impl Extend<(String, String)> for Environment {
    fn extend<I: IntoIterator<Item = (String, String)>>(&mut self, variables: I) {
        for (name, value) in variables {
            self.insert(name, value);
        }
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Environment").field("variables", &self.variables.len()).finish_non_exhaustive()
    }
}

/// The result of reading the environment and the `.env` file.
#[derive(Debug)]
pub struct Overlaid {
    /// The variables.
    pub environment: Environment,
    /// Problems of the file. Its valid lines are used anyway, so that further problems can be reported too. No line is
    /// repeated, since it may contain a secret.
    pub problems: Vec<Problem>,
    /// Warnings about a secret in a file that others can access, even if the process's environment overrides it, and
    /// about references to undefined variables.
    pub warnings: Vec<String>,
}

/// Reads the process's environment and the `.env` file at `dotenv`, if it exists. `secrets` are the variables that hold
/// secrets.
pub fn environment(dotenv: &Path, secrets: &[&str]) -> Overlaid {
    // A variable that is not UTF-8 is not a setting.
    let process = std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)));
    overlay(process.collect(), dotenv, secrets)
}

/// [`environment`] for a process with the variables `process`.
pub fn overlay(process: Environment, dotenv: &Path, secrets: &[&str]) -> Overlaid {
    let (text, mut problems) = match read(dotenv) {
        Ok(text) => (text, Vec::new()),
        Err(reason) => (String::new(), vec![Problem::of_file(dotenv, reason)]),
    };
    let mut bindings = Vec::new();
    for statement in dotenv::parse(&text) {
        match statement {
            Ok(binding) => bindings.push(binding),
            Err(error) => problems.push(Problem::of_file(dotenv, format!("line {} {}", error.line, error.reason))),
        }
    }
    let (values, undefined) = dotenv::resolve(bindings, |name| process.get(name).map(str::to_owned));
    let mut warnings = Vec::new();
    if secrets.iter().any(|name| values.contains_key(*name)) {
        warnings.extend(exposed(dotenv));
    }
    let file = shown_path(dotenv);
    warnings.extend(undefined.into_iter().map(|line| {
        format!("{file}: line {line} refers to a variable that is not set, as ${{NAME}}: it is replaced by nothing")
    }));
    let mut environment = Environment { incomplete: !problems.is_empty(), ..Environment::default() };
    for (name, value) in values {
        environment.variables.insert(name, Variable { value, from_dotenv: true });
    }
    environment.variables.extend(process.variables);
    Overlaid { environment, problems, warnings }
}

/// The text of the file; empty if it does not exist.
fn read(dotenv: &Path) -> Result<String, String> {
    let bytes = match bounded::read(dotenv, bounded::SETTINGS_LIMIT) {
        Ok(bytes) => bytes?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(String::new()),
        Err(error) => return Err(error.to_string()),
    };
    String::from_utf8(bytes).map_err(|error| {
        let before = error.as_bytes().iter().take(error.utf8_error().valid_up_to());
        format!("line {} is not UTF-8", before.filter(|byte| **byte == b'\n').count() + 1)
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn read_text(text: impl AsRef<[u8]>, process: &[(&str, &str)]) -> Overlaid {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let process = process.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        overlay(process, file.path(), &["JWT_SECRET_KEY", "KEY"])
    }

    #[test]
    fn invalid_lines_are_reported_without_their_text_and_the_others_are_used() {
        let Overlaid { environment, problems, warnings } = read_text("hush\nGOOD=1\n=hush hush\nA=\"hush\n", &[]);
        assert_eq!(environment.get("GOOD"), Some("1"));
        let reasons: Vec<_> = problems.iter().map(|problem| problem.reason.as_str()).collect();
        assert_eq!(reasons, ["line 1 has no `=`", "line 3 has no name", "line 4 has an unclosed quote"]);
        assert_eq!(warnings, [""; 0]);
        let problems = read_text(b"A=1\nB=\xff\n", &[]).problems;
        assert_eq!((problems.len(), problems[0].reason.as_str()), (1, "line 2 is not UTF-8"));
    }

    #[test]
    fn the_process_overrides_the_file_in_references_too() {
        let read = read_text("A=file\nB=${A}\nC=file\nD=${E}", &[("A", "process")]);
        let environment = read.environment;
        assert_eq!((environment.get("A"), environment.get("B")), (Some("process"), Some("process")));
        assert_eq!(["A", "B", "C"].map(|name| environment.is_from_dotenv(name)), [false, true, true]);
        assert_eq!(read.warnings.len(), 1, "{:?}", read.warnings);
        assert!(read.warnings[0].contains("line 4") && !read.warnings[0].contains("{E}"), "{:?}", read.warnings);
        assert!(!format!("{environment:?}").contains("process"));
    }

    #[test]
    fn a_dotenv_that_is_not_a_file_is_a_problem_and_a_missing_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(environment(folder.path(), &[]).problems.len(), 1);
        assert_eq!(environment(&folder.path().join("missing"), &[]).problems, []);
        let endless = environment(Path::new("/dev/zero"), &[]).problems;
        assert_eq!((endless.len(), endless[0].reason.as_str()), (1, "the file has more than 1048576 bytes"));
    }

    #[test]
    fn a_readable_dotenv_with_a_secret_causes_a_warning() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for (text, mode, warns) in [
            ("JWT_SECRET_KEY=hush\n", 0o644, true),
            ("KEY='[{ kid = \"a\", secret = \"hush\" }]'\n", 0o644, true),
            ("JWT_SECRET_KEY=hush\n", 0o600, false),
            ("JWT_SECRET_KEY_FILE=/run/key\nLOG_LEVEL=info\n", 0o644, false),
        ] {
            std::fs::write(file.path(), text).unwrap();
            std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(mode)).unwrap();
            let warnings = environment(file.path(), &["JWT_SECRET_KEY", "KEY"]).warnings;
            let expected =
                format!("{} holds a secret and can be read by every user of this machine", file.path().display());
            assert_eq!(warnings, if warns { vec![expected] } else { Vec::new() }, "{text}");
        }
    }
}
