//! Loads the configuration of the process, and knows the files that it is read from.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use holodule_settings::{Files, Overlaid, environment};

use super::{Config, Environment, Problems, SECRET_VARIABLES};

impl Config {
    /// Reads the configuration from `file`, the `.env` file at `dotenv` if it exists, and the environment of the
    /// process. The environment overrides `.env`, which overrides `file`.
    ///
    /// # Errors
    /// The errors of [`Config::read`], and every problem of `dotenv`.
    pub fn load(file: Option<&Path>, dotenv: &Path) -> Result<Self, Problems> {
        let files = own_files(file, dotenv);
        let Overlaid { environment, problems, warnings } = environment(dotenv, &SECRET_VARIABLES);
        let mut config = Problems::join(problems, Self::read(file, environment))?;
        config.files.extend(files);
        config.warnings.extend(warnings);
        Ok(config)
    }

    /// Reads the configuration from `file` and `environment`, which overrides `file`.
    ///
    /// # Errors
    /// Every problem found, including unknown keys.
    pub fn read(file: Option<&Path>, environment: Environment) -> Result<Self, Problems> {
        // If the limit cannot be read, assume 0 descriptors, so that the check below fails.
        Self::read_within(file, environment, rlimit::Resource::NOFILE.get_hard().unwrap_or(0))
    }

    /// [`Config::read`] for a process that may open `descriptors` files.
    pub(super) fn read_within(
        file: Option<&Path>,
        environment: Environment,
        descriptors: u64,
    ) -> Result<Self, Problems> {
        Self::read_noting(file, environment, descriptors, &mut Arc::default())
    }

    /// The files that [`Config::load`] reads, with their states before that; also those of a configuration that is not
    /// valid, as far as they are known.
    pub fn files_of(file: Option<&Path>, dotenv: &Path) -> Files {
        let mut files = own_files(file, dotenv);
        let Overlaid { environment, .. } = environment(dotenv, &SECRET_VARIABLES);
        let mut read = Arc::default();
        // Problems are reported by the reload.
        let _ = Self::read_noting(file, environment, u64::MAX, &mut read);
        files.extend(read_by(&read));
        files
    }
}

/// The files of the settings themselves.
fn own_files(file: Option<&Path>, dotenv: &Path) -> Files {
    let mut files = Files::default();
    for path in file.into_iter().chain([dotenv]) {
        files.add(path);
    }
    files
}

/// The files that a source has read until now.
pub(super) fn read_by(files: &Mutex<Files>) -> Files {
    files.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_files_of_an_invalid_configuration_are_known() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let text = "[tls]\ncertificate = 'cert.pem'\nprivate_key = 'key.pem'\n\
                    [[certificate]]\ncertificate = 'other.pem'\nprivate_key = 'other-key.pem'\n\
                    [[key]]\nkid = 'a'\nsecret_file = 'secret'\n\
                    [[service]]\nname = 's'\naddresses = ['localhost:1']\n\
                    tls = { ca = 'ca.pem', certificate = 'own.pem', private_key = 'own-key.pem' }\nunknown = 1\n";
        fs::write(path("gateway.toml"), text).unwrap();
        assert!(Config::load(Some(&path("gateway.toml")), &path(".env")).is_err());
        let files = Config::files_of(Some(&path("gateway.toml")), &path(".env"));
        let mut names: Vec<_> = files.paths().map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
        names.sort_unstable();
        assert_eq!(
            names,
            [
                ".env",
                "ca.pem",
                "cert.pem",
                "gateway.toml",
                "key.pem",
                "other-key.pem",
                "other.pem",
                "own-key.pem",
                "own.pem",
                "secret"
            ]
        );
    }
}
