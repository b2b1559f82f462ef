//! The configuration: settings are parsed into a [`Config`] that is always valid, or all problems are reported
//! together.
//!
//! Each module declares its own `Settings`. The keys with their defaults and ranges are here, and documented in
//! `ops/config/backend.toml`.

mod store_url;

use std::path::{Path, PathBuf};
use std::time::Duration;

pub use holodule_settings::{Environment, Problem, Problems, Secret, Source, Values};
use holodule_settings::{Overlaid, environment};

pub use store_url::DEFAULT_STORE;
use store_url::store_url;

use crate::server::{Address, Limits};
use crate::store::StoreUrl;
use crate::{handler, password, record, server, store};

/// The minimum cost of an argon2id hash: memory in KiB times passes. OWASP's equivalent choices are between 35,840
/// (m=7168, t=5) and 38,912 (m=19456, t=2).
const ARGON2_FLOOR: u64 = 7168 * 5;

/// Variables with secrets.
const SECRET_VARIABLES: [&str; 3] = ["STORE", "MONGODB_PASSWORD", "TELEMETRY_HEADERS"];

/// The variable with the path of the configuration file, if the command line has none.
const FILE_VARIABLE: &str = "HOLODULE_BACKEND_CONFIG";

/// The validated configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// Address of the api listener.
    pub api_addr: Address,
    /// Address of the admin listener; public only if that is allowed.
    pub admin_addr: Address,
    /// File for the bound addresses.
    pub announce_file: Option<PathBuf>,
    /// The store.
    pub store: store::Settings,
    /// Password hashing.
    pub password: password::Settings,
    /// Settings of the handlers.
    pub handler: handler::Settings,
    /// How long a new process may take until it is ready, in an upgrade in place.
    pub upgrade_timeout: Duration,
    /// Settings of the listeners.
    pub server: server::Settings,
    /// The log.
    pub log: record::Settings,
    /// The export of traces; `None` if disabled.
    pub telemetry: Option<holodule_telemetry::Settings>,
    /// Valid but possibly surprising settings, for `check` and the log at start.
    pub notes: Vec<String>,
    /// Problems that do not prevent a start, such as files with secrets that others can read.
    pub warnings: Vec<String>,
    /// The values that were set, with their origins.
    pub values: Values,
    /// All keys with their effective values and origins, one line each. Secrets are masked.
    pub effective: Vec<String>,
}

impl Config {
    /// Reads the configuration from `file`, or else from the file in `HOLODULE_BACKEND_CONFIG`. It is overridden by the
    /// `.env` file at `dotenv`, if it exists, and that by the environment.
    ///
    /// # Errors
    /// As [`Config::from_source`], and every problem of `dotenv`.
    pub fn load(file: Option<&Path>, dotenv: &Path) -> Result<Self, Problems> {
        let Overlaid { environment, problems, warnings } = environment(dotenv, &SECRET_VARIABLES);
        let file = named_file(file, &environment);
        let config = Self::from_source(Source::read(file.as_deref(), environment));
        let mut config = Problems::join(problems, config)?;
        config.warnings.extend(warnings);
        Ok(config)
    }

    /// Reads `admin_addr` from where [`Config::load`] does. Other keys are not read, so that their errors do not matter.
    ///
    /// # Errors
    /// Every problem of `admin_addr`, of `dotenv` and of the file as a whole.
    pub fn load_admin_addr(file: Option<&Path>, dotenv: &Path) -> Result<Address, Problems> {
        let Overlaid { environment, problems, .. } = environment(dotenv, &SECRET_VARIABLES);
        let mut source = Source::read(named_file(file, &environment).as_deref(), environment);
        let address = address(&mut source, "admin_addr", 8081);
        let own = source.into_problems();
        Problems::join(problems, if own.is_empty() { Ok(address) } else { Err(Problems(own)) })
    }

    /// Reads all keys of `source`.
    ///
    /// # Errors
    /// All problems.
    pub fn from_source(mut source: Source) -> Result<Self, Problems> {
        let mut config = Self::read(&mut source);
        config.warnings = source.warnings();
        if let StoreUrl::Mongo(url) = &config.store.url {
            let unsupported =
                |name| format!("store: {name} has no effect: the Rust driver for MongoDB does not support it");
            config.warnings.extend(url.unsupported().iter().map(unsupported));
        }
        config.values = source.values();
        let defaults = include_str!("../../../ops/config/backend.toml").parse().unwrap_or_default();
        config.effective = config.values.effective(source.keys_read(), &defaults);
        source.finish()?;
        Ok(config)
    }

    /// Whether anything but the log level differs from `running`.
    pub fn is_changed_from(&self, running: &Self) -> bool {
        // The debug output has all settings except the user, password and options of the URL.
        let shown = |config: &Self| {
            let mut config = config.clone();
            config.log.level = running.log.level;
            (config.notes, config.warnings, config.effective) = (Vec::new(), Vec::new(), Vec::new());
            config.values = Values::default();
            format!("{config:?}")
        };
        self.store.url != running.store.url || shown(self) != shown(running)
    }

    /// Reads all keys, with the default for invalid ones.
    fn read(s: &mut Source) -> Self {
        let mut notes = Vec::new();
        Self {
            api_addr: address(s, "api_addr", 8080),
            admin_addr: admin_address(s, &mut notes),
            announce_file: s.get::<PathBuf>("announce_file").filter(|path| !path.as_os_str().is_empty()),
            store: store::Settings {
                url: store_url(s, &mut notes),
                operation_timeout: s.seconds("store_operation_timeout", 5.0, 0.1..=120.0),
                max_connections: bounded(s, "store_max_connections", 100, 1..=10_000),
                text_cache: s.number("search.text_cache", 128 << 20, 0..=64 << 30),
            },
            password: passwords(s, &mut notes),
            handler: handler::Settings {
                page: s.get_or("admin.page", true),
                allowed_hosts: allowed_hosts(s),
                login_names: s.get_or("log.login_names", true),
                body_limit: usize::try_from(s.number("admin.body_limit", 64 << 20, 1024..=1 << 30)).unwrap_or(64 << 20),
                body_timeout: s.seconds("admin.body_timeout", 60.0, 0.1..=3600.0),
                concurrent_uploads: bounded(s, "admin.concurrent_uploads", 4, 1..=64),
                backup_folder: s.get::<PathBuf>("backup.folder").filter(|path| !path.as_os_str().is_empty()),
                lists: lists(s),
            },
            upgrade_timeout: s.seconds("upgrade_timeout", 60.0, 1.0..=3600.0),
            server: server::Settings {
                // The gateway accepts 16 KiB from a client, and adds fields.
                api: limits(s, "api", 4096, 24 * 1024),
                admin: limits(s, "admin", 1024, 16 * 1024),
                drain: s.seconds("drain", 20.0, 0.0..=600.0),
            },
            log: record::Settings {
                format: s.parse("log.format", str::parse).unwrap_or_default(),
                level: s.parse("log.level", str::parse).unwrap_or_default(),
            },
            telemetry: holodule_telemetry::read(s, "holodule-backend"),
            notes,
            warnings: Vec::new(),
            values: Values::default(),
            effective: Vec::new(),
        }
    }
}

/// `file`, or else the one in the environment.
fn named_file(file: Option<&Path>, environment: &Environment) -> Option<PathBuf> {
    let named = environment.get(FILE_VARIABLE).filter(|path| !path.is_empty()).map(PathBuf::from);
    file.map(Path::to_owned).or(named)
}

fn address(source: &mut Source, key: &str, default_port: u16) -> Address {
    let default = Address::Tcp((std::net::Ipv4Addr::LOCALHOST, default_port).into());
    source.parse(key, str::parse).unwrap_or(default)
}

fn admin_address(source: &mut Source, notes: &mut Vec<String>) -> Address {
    let address = address(source, "admin_addr", 8081);
    let allowed = source.get_or("admin.allow_public_bind", false);
    match (address.is_public(), allowed) {
        (true, false) => source.conflict(
            "admin_addr",
            format!("{address} is a public address, and the admin listener has no authentication; bind a loopback, private or Unix address, or set admin.allow_public_bind"),
        ),
        (true, true) => notes.push(format!("the admin listener, which has no authentication, uses the public address {address}")),
        (false, _) => {}
    }
    address
}

fn passwords(source: &mut Source, notes: &mut Vec<String>) -> password::Settings {
    use password::CostLimits;
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let concurrency = source.number("password.concurrency", cores as u64, 1..=1024);
    let queue = source.number("password.queue", 64, 0..=65_536);
    let settings = password::Settings {
        memory_kib: bounded(source, "password.argon2_memory_kib", 19_456, 1024..=CostLimits::MEMORY_KIB),
        iterations: bounded(source, "password.argon2_iterations", 2, 1..=CostLimits::ITERATIONS),
        parallelism: bounded(source, "password.argon2_parallelism", 1, 1..=CostLimits::PARALLELISM),
        concurrency: usize::try_from(concurrency).unwrap_or(cores),
        queue: usize::try_from(queue).unwrap_or(usize::MAX),
        upgrade: source.get_or("password.upgrade", true),
    };
    let cost = u64::from(settings.memory_kib) * u64::from(settings.iterations);
    if cost < ARGON2_FLOOR {
        let reason = format!(
            "argon2_memory_kib times argon2_iterations is {cost}, under {ARGON2_FLOOR}: stolen hashes would be too cheap to crack"
        );
        source.conflict("password.argon2_memory_kib", reason);
    }
    if !settings.upgrade {
        notes.push("password.upgrade is off: stored plain-text and bcrypt passwords are not replaced".to_owned());
    }
    settings
}

fn lists(source: &mut Source) -> handler::ListSettings {
    handler::ListSettings {
        assumed_duration: u32::try_from(source.whole_seconds("holodules.assumed_duration", 7200, 60..=86_400))
            .unwrap_or(7200),
        search: handler::SearchSettings {
            concurrency: bounded(source, "search.concurrency", 4, 1..=64),
            timeout: source.seconds("search.timeout", 2.0, 0.1..=60.0),
            rate: bounded(source, "search.rate", 20, 1..=10_000),
            burst: bounded(source, "search.burst", 40, 1..=10_000),
        },
    }
}

fn allowed_hosts(source: &mut Source) -> Vec<String> {
    let hosts: Vec<String> = source.get_or("admin.allowed_hosts", Vec::new());
    let name = |host: &String| {
        !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
    };
    if !hosts.iter().all(name) {
        source.problem("admin.allowed_hosts", "must be a list of host names, without ports");
    }
    hosts.into_iter().map(|host| host.to_ascii_lowercase()).collect()
}

fn limits(source: &mut Source, listener: &str, max_connections: u64, header_bytes: u64) -> Limits {
    let key = |name: &str| format!("{listener}.{name}");
    let max_connections = source.number(&key("max_connections"), max_connections, 1..=1_000_000);
    let header_bytes = source.number(&key("header_limit"), header_bytes, 8192..=65_536);
    Limits {
        max_connections: usize::try_from(max_connections).unwrap_or(usize::MAX),
        header_timeout: source.seconds(&key("header_timeout"), 10.0, 0.1..=600.0),
        idle_timeout: source.seconds(&key("idle_timeout"), 90.0, 0.1..=3600.0),
        write_timeout: source.seconds(&key("write_timeout"), 30.0, 0.1..=600.0),
        header_bytes: usize::try_from(header_bytes).unwrap_or(16 * 1024),
    }
}

fn bounded(source: &mut Source, key: &str, default: u32, range: std::ops::RangeInclusive<u32>) -> u32 {
    let value = source.number(key, u64::from(default), u64::from(*range.start())..=u64::from(*range.end()));
    u32::try_from(value).unwrap_or(default)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn read(toml: &str, environment: &[(&str, &str)]) -> Result<Config, Problems> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(toml.as_bytes()).unwrap();
        let environment = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Config::from_source(Source::read(Some(file.path()), environment))
    }

    fn keys(result: Result<Config, Problems>) -> Vec<String> {
        result.unwrap_err().0.into_iter().map(|problem| problem.key).collect()
    }

    #[test]
    fn the_reference_file_documents_the_defaults() {
        let text = include_str!("../../../ops/config/backend.toml");
        let without_origins = |config: Config| Config { values: Values::default(), effective: Vec::new(), ..config };
        let [reference, default] = [text, ""].map(|text| format!("{:?}", without_origins(read(text, &[]).unwrap())));
        assert_eq!(reference, default);
    }

    #[test]
    fn the_reference_file_names_every_key() {
        let mut section = String::new();
        let mut named = std::collections::BTreeSet::new();
        for line in include_str!("../../../ops/config/backend.toml").lines() {
            if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
                section = format!("{name}.");
            } else if let Some((key, _)) = line.trim_start_matches("# ").split_once(" = ") {
                named.insert(format!("{section}{key}"));
            }
        }
        let mut source = Source::read(None, Environment::new());
        Config::read(&mut source);
        let read: std::collections::BTreeSet<String> = source
            .keys_read()
            .filter(|key| *key == "announce_file" || !key.ends_with("_file"))
            .map(str::to_owned)
            .collect();
        assert_eq!(named, read);
    }

    #[test]
    fn all_problems_are_reported_together_without_secrets() {
        let result = read(
            "store = 'hush://hush'\napi_addr = 'here'\ndrain = -1\n[admin]\nallowed_hosts = ['a:1']\n[log]\nlevel = 'loud'\n[nonsense]\nx = 1",
            &[("ADMIN_ADDR", "0.0.0.0:8081")],
        );
        let text = result.as_ref().unwrap_err().to_string();
        assert!(!text.contains("hush"), "{text}");
        let mut keys = keys(result);
        keys.sort_unstable();
        assert_eq!(keys, ["admin.allowed_hosts", "admin_addr", "api_addr", "drain", "log.level", "nonsense", "store"]);
    }

    #[test]
    fn a_file_with_the_store_that_others_can_read_is_warned_of() {
        use std::os::unix::fs::PermissionsExt as _;
        let file = tempfile::NamedTempFile::new().unwrap();
        for (text, mode, warns) in
            [("store = 'embedded:x'", 0o644, true), ("store = 'embedded:x'", 0o640, false), ("drain = 1", 0o644, false)]
        {
            std::fs::write(file.path(), text).unwrap();
            std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(mode)).unwrap();
            let config = Config::from_source(Source::read(Some(file.path()), Environment::new())).unwrap();
            let expected =
                format!("{} holds a secret and can be read by every user of this machine", file.path().display());
            assert_eq!(config.warnings, if warns { vec![expected] } else { Vec::new() }, "{text} {mode:o}");
        }
    }

    #[test]
    fn the_originals_variables_make_the_url() {
        let config =
            read("", &[("MONGODB_USER", "us/er"), ("MONGODB_PASSWORD", "p@ss"), ("MONGODB_HOST", "db.example:27017")]);
        assert_eq!(config.unwrap().store.url, StoreUrl::mongodb("us/er", "p@ss", "db.example:27017").unwrap());
        let config = read("store = 'embedded:x'", &[("MONGODB_HOST", "db.example")]).unwrap();
        assert_eq!(config.store.url, "embedded:x".parse().unwrap());
        assert!(config.notes.iter().any(|note| note.contains("not used")), "{:?}", config.notes);
    }

    #[test]
    fn a_part_of_the_originals_variables_is_an_error() {
        assert_eq!(keys(read("", &[("MONGODB_USER", "u"), ("MONGODB_HOST", "h")])), ["mongodb_password"]);
        assert_eq!(keys(read("", &[("MONGODB_PASSWORD", "p"), ("MONGODB_HOST", "h")])), ["mongodb_user"]);
        assert_eq!(keys(read("", &[("MONGODB_USER", "u"), ("MONGODB_PASSWORD", "p")])), ["mongodb_host"]);
        assert!(read("", &[("MONGODB_USER", ""), ("MONGODB_PASSWORD", ""), ("MONGODB_HOST", "")]).is_ok());
    }

    #[test]
    fn a_public_admin_address_must_be_allowed() {
        assert_eq!(keys(read("admin_addr = '8.8.8.8:1'", &[])), ["admin_addr"]);
        let config = read("admin_addr = '[::]:1'\n[admin]\nallow_public_bind = true", &[]).unwrap();
        assert!(config.notes.iter().any(|note| note.contains("[::]:1")), "{:?}", config.notes);
    }

    #[test]
    fn a_hash_cost_below_the_minimum_is_rejected() {
        assert_eq!(keys(read("[password]\nargon2_memory_kib = 9216", &[])), ["password.argon2_memory_kib"]);
        let config = read("[password]\nargon2_memory_kib = 7168\nargon2_iterations = 5", &[]).unwrap();
        assert_eq!(config.password.memory_kib, 7168);
    }

    #[test]
    fn the_environment_overrides_every_kind_of_value() {
        let config = read(
            "drain = 1",
            &[("DRAIN", "2.5"), ("PASSWORD_UPGRADE", "false"), ("ADMIN_ALLOWED_HOSTS", "['Admin.Example']")],
        )
        .unwrap();
        assert_eq!(config.server.drain.as_millis(), 2500);
        assert!(!config.password.upgrade);
        assert_eq!(config.handler.allowed_hosts, ["admin.example"]);
    }
}
