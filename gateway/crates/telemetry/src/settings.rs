//! The `[telemetry]` table, the same for both programs.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use holodule_settings::{Secret, Source, shown_path};
use http::{HeaderName, HeaderValue};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use crate::endpoint::Endpoint;

/// The maximum length of `service_name`, in bytes.
const MAX_NAME_BYTES: usize = 128;

/// The share of traces that are sampled.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ratio(f64);

impl Ratio {
    /// `None` unless `share` is from 0 to 1.
    pub fn new(share: f64) -> Option<Self> {
        (0.0..=1.0).contains(&share).then_some(Self(share))
    }

    /// Whether a new trace is sampled. The end of its id, which is random, decides.
    pub(crate) fn includes(self, trace_id: &[u8; 16]) -> bool {
        /// The bits that a double represents exactly.
        const BITS: u32 = 53;
        let number = u128::from_be_bytes(*trace_id) & ((1 << BITS) - 1);
        #[expect(clippy::cast_precision_loss, reason = "numbers of 53 bits are exact")]
        let (number, range) = (number as f64, (1_u64 << BITS) as f64);
        number < self.0 * range
    }
}

/// The settings of the export of traces.
#[derive(Clone, Debug)]
pub struct Settings {
    pub(crate) endpoint: Endpoint,
    /// The CAs that the collector's certificate is verified with; `None` without TLS.
    pub(crate) roots: Option<Arc<RootCertStore>>,
    pub(crate) headers: Headers,
    /// `service.name` of the spans.
    pub service_name: String,
    /// The share of new traces that are sampled.
    pub sample_ratio: Ratio,
    /// The time between two exports.
    pub interval: Duration,
    /// The timeout of an export, with its retries.
    pub timeout: Duration,
    /// The maximum number of spans that wait for the export.
    pub queue: usize,
}

/// Fields of requests to the collector, whose values are secret.
#[derive(Clone)]
pub(crate) struct Headers(pub(crate) HashMap<String, String>);

impl std::fmt::Debug for Headers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Reads `[telemetry]`; `None` if no collector is configured. `service_name` is the default of that key.
pub fn read(source: &mut Source, service_name: &str) -> Option<Settings> {
    let mut is_valid = true;
    let before = source.problems();
    let endpoint = source.parse_unless_empty("telemetry.otlp_endpoint", Endpoint::parse);
    is_valid &= source.problems() == before;
    let ca = source.get::<PathBuf>("telemetry.ca").filter(|path| !path.as_os_str().is_empty());
    let roots = ca.as_deref().and_then(|path| match read_roots(path) {
        Ok(roots) => Some(Arc::new(roots)),
        Err(reason) => {
            source.problem("telemetry.ca", format!("{}: {reason}", shown_path(path)));
            None
        }
    });
    let headers = source.secret("telemetry.headers");
    let headers = headers.map_or(Ok(HashMap::new()), |headers| parse_headers(&headers));
    let headers = headers.map_err(|reason| source.problem("telemetry.headers", reason)).ok();
    let name = source.get_or("telemetry.service_name", service_name.to_owned());
    if name.is_empty() || name.len() > MAX_NAME_BYTES || name.chars().any(char::is_control) {
        source.problem("telemetry.service_name", format!("must have 1 to {MAX_NAME_BYTES} bytes"));
    }
    let ratio = Ratio::new(source.get_or("telemetry.sample_ratio", 1.0));
    if ratio.is_none() {
        source.problem("telemetry.sample_ratio", "must be from 0 to 1");
    }
    let interval = source.seconds("telemetry.interval", 5.0, 0.1..=300.0);
    let timeout = source.seconds("telemetry.timeout", 10.0, 0.1..=300.0);
    let queue = usize::try_from(source.number("telemetry.queue", 4096, 1..=1_000_000)).unwrap_or(usize::MAX);
    let endpoint = endpoint.filter(|_| is_valid)?;
    if endpoint.is_tls && ca.is_none() {
        source.problem("telemetry.ca", "is required for https: the PEM file of the trusted CAs");
    }
    if !endpoint.is_tls && ca.is_some() {
        source.conflict("telemetry.ca", "is used for https only");
    }
    Some(Settings {
        endpoint,
        roots,
        headers: Headers(headers?),
        service_name: name,
        sample_ratio: ratio?,
        interval,
        timeout,
        queue,
    })
}

fn read_roots(path: &Path) -> Result<RootCertStore, String> {
    let certificates = CertificateDer::pem_file_iter(path).map_err(|_| "the file cannot be read".to_owned())?;
    let mut roots = RootCertStore::empty();
    for (place, certificate) in certificates.enumerate() {
        let unusable = || format!("certificate {} of the file is not that of a CA", place + 1);
        roots.add(certificate.map_err(|_| unusable())?).map_err(|_| unusable())?;
    }
    if roots.is_empty() { Err("the file has no certificate".to_owned()) } else { Ok(roots) }
}

/// Parses `name=value,name=value`. No error repeats a part of it.
fn parse_headers(text: &Secret) -> Result<HashMap<String, String>, &'static str> {
    const FORM: &str = "must be a list such as name=value,other=value";
    let members = text.expose().split(',').map(str::trim).filter(|member| !member.is_empty());
    let parse = |member: &str| {
        let (name, value) = member.split_once('=').ok_or(FORM)?;
        let (name, value) = (name.trim(), value.trim());
        HeaderName::try_from(name).map_err(|_| FORM)?;
        HeaderValue::try_from(value).map_err(|_| FORM)?;
        Ok((name.to_ascii_lowercase(), value.to_owned()))
    };
    members.map(parse).collect()
}

#[cfg(test)]
mod tests {
    use holodule_settings::Environment;

    use super::*;

    fn read_toml(text: &str) -> (Option<Settings>, Vec<String>) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config.toml");
        std::fs::write(&file, text).unwrap();
        let mut source = Source::read(Some(&file), Environment::default());
        let settings = read(&mut source, "default-name");
        (settings, source.into_problems().iter().map(|problem| format!("{problem:?}")).collect())
    }

    #[test]
    fn nothing_is_exported_by_default() {
        let (settings, problems) = read_toml("");
        assert!(settings.is_none());
        assert_eq!(problems, Vec::<String>::new());
        let (settings, problems) = read_toml("telemetry.otlp_endpoint = ''\ntelemetry.sample_ratio = 0.5");
        assert!(settings.is_none());
        assert_eq!(problems, Vec::<String>::new());
    }

    #[test]
    fn an_endpoint_suffices() {
        let (settings, problems) = read_toml("telemetry.otlp_endpoint = 'http://127.0.0.1:4318'");
        assert_eq!(problems, Vec::<String>::new());
        let settings = settings.unwrap();
        assert_eq!((settings.service_name.as_str(), settings.queue), ("default-name", 4096));
        assert_eq!(settings.sample_ratio, Ratio(1.0));
    }

    #[test]
    fn headers_are_parsed_and_never_shown() {
        let (settings, _) = read_toml(
            "[telemetry]\notlp_endpoint = 'http://127.0.0.1:4318'\nheaders = 'Authorization=Basic aHVzaA==, x-scope = a'",
        );
        let settings = settings.unwrap();
        assert_eq!(settings.headers.0["authorization"], "Basic aHVzaA==");
        assert_eq!(settings.headers.0["x-scope"], "a");
        assert!(!format!("{settings:?}").contains("aHVzaA"));
        let (_, problems) =
            read_toml("[telemetry]\notlp_endpoint = 'http://127.0.0.1:4318'\nheaders = 'authorization hush'");
        assert_eq!(problems.len(), 1);
        assert!(!problems[0].contains("hush"), "{problems:?}");
    }

    #[test]
    fn invalid_values_are_problems() {
        for (text, key) in [
            ("otlp_endpoint = 'localhost'", "otlp_endpoint"),
            ("otlp_endpoint = 'https://localhost'", "ca"),
            ("otlp_endpoint = 'https://localhost'\nca = '/nowhere.pem'", "ca"),
            ("service_name = ''", "service_name"),
            ("sample_ratio = 1.1", "sample_ratio"),
            ("sample_ratio = -0.1", "sample_ratio"),
            ("sample_ratio = nan", "sample_ratio"),
            ("interval = 0", "interval"),
            ("timeout = 0", "timeout"),
            ("queue = 0", "queue"),
        ] {
            let (_, problems) = read_toml(&format!("[telemetry]\n{text}"));
            assert_eq!(problems.len(), 1, "{text}: {problems:?}");
            assert!(problems[0].contains(&format!("telemetry.{key}")), "{text}: {problems:?}");
        }
    }

    #[test]
    fn the_ratio_decides_by_the_random_part_of_the_id() {
        let mut id = [0; 16];
        assert!(!Ratio(0.0).includes(&id));
        assert!(Ratio(0.5).includes(&id));
        id[9] = 0x10;
        assert!(!Ratio(0.5).includes(&id));
        assert!(Ratio(1.0).includes(&[0xff; 16]));
    }
}
