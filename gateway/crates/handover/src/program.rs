//! How this program was started, to start it again.

use std::env;
use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The environment variable that marks a process started by an upgrade. Its value is the process id of the one that
/// started it.
pub(crate) const MARKER: &str = "HOLODULE_HANDOVER";

/// The executable and the arguments of this process.
#[derive(Clone, Debug)]
pub struct Program {
    executable: PathBuf,
    name: Option<OsString>,
    arguments: Vec<OsString>,
}

impl Program {
    /// Those of this process. Call it at the start: after the file was replaced, the system reports the old one as deleted.
    ///
    /// # Errors
    /// The system does not report the executable.
    pub fn current() -> io::Result<Self> {
        let mut arguments = env::args_os();
        let name = arguments.next();
        let executable = executable(env::current_exe()?, name.as_deref().map(Path::new));
        Ok(Self { executable, name, arguments: arguments.collect() })
    }

    /// Another program, for tests.
    pub fn new(executable: impl Into<PathBuf>, arguments: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        let arguments = arguments.into_iter().map(Into::into).collect();
        Self { executable: executable.into(), name: None, arguments }
    }

    /// The command that starts it, marked as started by this process.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.executable);
        if let Some(name) = &self.name {
            command.arg0(name);
        }
        command.args(&self.arguments).env(MARKER, std::process::id().to_string());
        command
    }
}

/// The path to start: the one that the process was started with, if it is a path of the running file. It may lead through
/// symbolic links, which an upgrade changes; `running`, reported by the system, does not contain them. `name` alone is not
/// trusted: it is chosen by the process that starts another.
fn executable(running: PathBuf, name: Option<&Path>) -> PathBuf {
    let path = name.filter(|name| name.components().count() > 1 || name.is_absolute());
    let path = path.and_then(|path| std::path::absolute(path).ok());
    path.filter(|path| path.canonicalize().is_ok_and(|real| real == running)).unwrap_or(running)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_link_to_the_running_file_is_followed_again_at_the_next_start() {
        let folder = tempfile::tempdir().unwrap();
        let real = folder.path().canonicalize().unwrap().join("program-1");
        let link = folder.path().join("program");
        std::fs::write(&real, "").unwrap();
        symlink(&real, &link).unwrap();
        assert_eq!(executable(real.clone(), Some(&link)), link);
        assert_eq!(executable(real.clone(), Some(&real)), real);
    }

    #[test]
    fn a_name_that_is_not_the_running_file_is_ignored() {
        let folder = tempfile::tempdir().unwrap();
        let real = folder.path().canonicalize().unwrap().join("program");
        std::fs::write(&real, "").unwrap();
        for name in ["program", "/bin/sh", "./program", "", "/"] {
            assert_eq!(executable(real.clone(), Some(Path::new(name))), real, "{name}");
        }
        assert_eq!(executable(real.clone(), None), real);
    }
}
