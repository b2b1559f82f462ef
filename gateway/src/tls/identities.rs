//! Certificate selection and the TLS configuration: versions 1.2 and 1.3. rustls supports only ephemeral key
//! exchange and authenticated encryption (RFC 9325).

use std::sync::{Arc, PoisonError, RwLock};

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::server::{ProducesTickets, ServerSessionMemoryCache, StoresServerSessions};
use rustls::sign::SingleCertAndKey;

use super::challenge::{self, Challenges};
use super::identity::Identity;

/// Size of the session cache for TLS 1.2 clients without ticket support. Sessions of other clients are stored
/// in their tickets, so their number is not limited.
const SESSIONS: usize = 4096;

/// The certificates, selected by the server name of the client (SNI; RFC 6066, section 3): those of the configuration,
/// then those obtained by ACME. They can be replaced while connections are open.
pub struct Identities {
    resumption: Resumption,
    served: RwLock<All>,
    challenges: Option<Arc<dyn Challenges>>,
}

/// The certificates, of which the first `configured` are from the configuration.
struct All {
    configured: usize,
    served: Arc<[Served]>,
}

/// A certificate and its TLS configuration. A connection refers to the certificate of its handshake, even after
/// that was replaced, and so knows which hosts it covers.
#[derive(Clone)]
pub(crate) struct Served {
    pub(crate) identity: Arc<Identity>,
    pub(crate) config: Arc<ServerConfig>,
}

/// Certificates that can be served.
pub struct Prepared(Vec<Served>);

/// State for session resumption, shared by all certificates and retained when they are replaced. rustls resumes
/// a session only for the server name it was created for (RFC 6066, section 3).
struct Resumption {
    /// Encrypts tickets with a key that is rotated every 6 hours, and accepts those of the previous key.
    tickets: Arc<dyn ProducesTickets>,
    sessions: Arc<dyn StoresServerSessions>,
}

impl Identities {
    /// Serves `identities`. The first one with the exact server name is selected, else the first one with a
    /// matching wildcard, else the first of all.
    ///
    /// # Errors
    /// `identities` is empty, or the system's random generator failed.
    pub fn new(identities: Vec<Identity>) -> Result<Self, rustls::Error> {
        let resumption = Resumption::new()?;
        let served = serve(identities.into_iter().map(Arc::new), &resumption)?;
        if served.is_empty() {
            return Err(rustls::Error::NoCertificatesPresented);
        }
        let served = RwLock::new(All { configured: served.len(), served: served.into() });
        Ok(Self { resumption, served, challenges: None })
    }

    /// [`Identities::new`], where `identities` may be empty since further certificates are obtained by ACME.
    /// `challenges` has the tls-alpn-01 challenges to which handshakes respond.
    ///
    /// # Errors
    /// The system's random generator failed.
    pub fn with_acme(identities: Vec<Identity>, challenges: Arc<dyn Challenges>) -> Result<Self, rustls::Error> {
        let resumption = Resumption::new()?;
        let served = serve(identities.into_iter().map(Arc::new), &resumption)?;
        let served = RwLock::new(All { configured: served.len(), served: served.into() });
        Ok(Self { resumption, served, challenges: Some(challenges) })
    }

    /// Prepares to serve these certificates of the configuration.
    ///
    /// # Errors
    /// As for [`Identities::new`] or [`Identities::with_acme`].
    pub fn prepare(&self, identities: Vec<Identity>) -> Result<Prepared, rustls::Error> {
        let served = serve(identities.into_iter().map(Arc::new), &self.resumption)?;
        if served.is_empty() && self.challenges.is_none() {
            return Err(rustls::Error::NoCertificatesPresented);
        }
        Ok(Prepared(served))
    }

    /// Serves these certificates of the configuration from the next handshake on. Open connections are unaffected,
    /// and sessions created with the previous certificates can be resumed.
    pub fn replace(&self, Prepared(mut served): Prepared) {
        let mut all = self.served.write().unwrap_or_else(PoisonError::into_inner);
        let configured = served.len();
        served.extend(all.served.iter().skip(all.configured).cloned());
        *all = All { configured, served: served.into() };
    }

    /// The same for the certificates obtained by ACME.
    ///
    /// # Errors
    /// The TLS library; the previous certificates are then still served.
    pub fn replace_obtained(&self, identities: Vec<Arc<Identity>>) -> Result<(), rustls::Error> {
        let obtained = serve(identities.into_iter(), &self.resumption)?;
        let mut all = self.served.write().unwrap_or_else(PoisonError::into_inner);
        let mut served: Vec<_> = all.served.iter().take(all.configured).cloned().collect();
        served.extend(obtained);
        all.served = served.into();
        Ok(())
    }

    /// Returns the certificates in their configured order.
    pub fn all(&self) -> Vec<Arc<Identity>> {
        self.current().iter().map(|served| Arc::clone(&served.identity)).collect()
    }

    /// Returns whether any of the certificates covers `host` (see [`Identity::covers`]).
    pub fn covers(&self, host: &str) -> bool {
        self.current().iter().any(|served| served.identity.covers(host))
    }

    /// Selects the certificate for the server name `name`; `None` if there is none yet.
    pub(crate) fn choose(&self, name: Option<&str>) -> Option<Served> {
        let served = self.current();
        let name = name.map(str::to_ascii_lowercase);
        let exact = name.as_ref().and_then(|name| served.iter().find(|served| served.identity.names(name)));
        let any = || name.as_ref().and_then(|name| served.iter().find(|served| served.identity.covers(name)));
        exact.or_else(any).or(served.first()).cloned()
    }

    /// The configuration for the handshake of a CA that validates `name` (RFC 8737, section 3); `None` without a
    /// pending challenge.
    pub(crate) fn challenge(&self, name: &str) -> Option<Arc<ServerConfig>> {
        let name = name.to_ascii_lowercase();
        let digest = self.challenges.as_ref()?.digest(&name)?;
        challenge::server_config(&name, &digest)
    }

    fn current(&self) -> Arc<[Served]> {
        Arc::clone(&self.served.read().unwrap_or_else(PoisonError::into_inner).served)
    }
}

impl Resumption {
    fn new() -> Result<Self, rustls::Error> {
        Ok(Self { tickets: aws_lc_rs::Ticketer::new()?, sessions: ServerSessionMemoryCache::new(SESSIONS) })
    }
}

fn serve(
    identities: impl Iterator<Item = Arc<Identity>>,
    resumption: &Resumption,
) -> Result<Vec<Served>, rustls::Error> {
    let serve = |identity: Arc<Identity>| {
        let config = Arc::new(server_config(&identity, resumption)?);
        Ok(Served { identity, config })
    };
    identities.map(serve).collect()
}

/// Returns the server configuration for one certificate.
fn server_config(identity: &Identity, resumption: &Resumption) -> Result<ServerConfig, rustls::Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(&identity.certified))));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.session_storage = Arc::clone(&resumption.sessions);
    config.ticketer = Arc::clone(&resumption.tickets);
    config.ignore_client_order = true;
    // A ticket is used once, so one is sufficient; the default of two makes each handshake more expensive.
    config.send_tls13_tickets = 1;
    // 0-RTT is disabled, since early data can be replayed (RFC 8446, section 8).
    config.max_early_data_size = 0;
    Ok(config)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use rustls::{NamedGroup, SupportedCipherSuite};

    use super::super::identity::Purpose;
    use super::*;

    fn identity(folder: &Path, names: &[&str]) -> Identity {
        let made = rcgen::generate_simple_self_signed(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        let made = made.unwrap();
        let [certificate, key] = ["cert.pem", "key.pem"].map(|name| folder.join(name));
        std::fs::write(&certificate, made.cert.pem()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        Identity::read(&certificate, &key, Purpose::Server).unwrap()
    }

    fn identities(folder: &Path, names: &[&[&str]]) -> Vec<Identity> {
        names.iter().map(|names| identity(folder, names)).collect()
    }

    /// The first name of the certificate selected for `name`.
    fn selected(identities: &Identities, name: Option<&str>) -> String {
        identities.choose(name).unwrap().identity.names[0].clone()
    }

    #[test]
    fn an_exact_name_has_priority_and_the_first_certificate_is_the_default() {
        let folder = tempfile::tempdir().unwrap();
        let names: [&[&str]; 4] =
            [&["first.example"], &["*.example.org", "example.org"], &["api.example.org"], &["api.example.org", "x"]];
        let identities = Identities::new(identities(folder.path(), &names)).unwrap();
        for (name, expected) in [
            (None, "first.example"),
            (Some("first.example"), "first.example"),
            (Some("elsewhere.example"), "first.example"),
            (Some("api.example.org"), "api.example.org"),
            (Some("API.Example.org"), "api.example.org"),
            (Some("www.example.org"), "*.example.org"),
            (Some("example.org"), "*.example.org"),
            (Some("a.b.example.org"), "first.example"),
        ] {
            assert_eq!(selected(&identities, name), expected, "{name:?}");
        }
        // The first of two certificates with the name.
        assert_eq!(identities.choose(Some("api.example.org")).unwrap().identity.names.len(), 1);
        assert!(identities.covers("www.example.org") && identities.covers("first.example"));
        assert!(!identities.covers("elsewhere.example"));
    }

    #[test]
    fn replacing_certificates_does_not_affect_open_connections() {
        let folder = tempfile::tempdir().unwrap();
        let served = Identities::new(identities(folder.path(), &[&["old.example"]])).unwrap();
        let before = served.choose(None).unwrap();
        let tickets = Arc::clone(&before.config.ticketer);
        served.replace(served.prepare(identities(folder.path(), &[&["new.example"], &["old.example"]])).unwrap());
        assert_eq!(before.identity.names, ["old.example"]);
        assert_eq!(selected(&served, None), "new.example");
        assert!(Arc::ptr_eq(&tickets, &served.choose(None).unwrap().config.ticketer), "sessions resume");
        // An empty list is rejected, since no certificate is obtained by ACME.
        assert!(served.prepare(Vec::new()).is_err());
        assert_eq!(selected(&served, None), "new.example");
        assert!(Identities::new(Vec::new()).is_err());
    }

    struct NoChallenge;

    impl Challenges for NoChallenge {
        fn digest(&self, _: &str) -> Option<[u8; 32]> {
            None
        }
    }

    #[test]
    fn obtained_certificates_follow_those_of_the_configuration_and_are_replaced_apart() {
        let folder = tempfile::tempdir().unwrap();
        let obtained = |names: &[&str]| vec![Arc::new(identity(folder.path(), names))];
        let served = Identities::with_acme(Vec::new(), Arc::new(NoChallenge)).unwrap();
        assert!(served.choose(Some("acme.example")).is_none() && served.choose(None).is_none());
        served.replace_obtained(obtained(&["acme.example"])).unwrap();
        assert_eq!(selected(&served, Some("elsewhere.example")), "acme.example");
        served.replace(served.prepare(identities(folder.path(), &[&["own.example"]])).unwrap());
        assert_eq!(selected(&served, Some("elsewhere.example")), "own.example");
        assert_eq!(selected(&served, Some("acme.example")), "acme.example");
        served.replace_obtained(obtained(&["newer.example"])).unwrap();
        assert_eq!(selected(&served, Some("own.example")), "own.example");
        assert!(served.covers("newer.example") && !served.covers("acme.example"));
        served.replace(served.prepare(Vec::new()).unwrap());
        assert_eq!(selected(&served, None), "newer.example");
        assert!(served.challenge("newer.example").is_none());
    }

    #[test]
    fn only_ephemeral_key_exchange_and_aead_are_supported() {
        let folder = tempfile::tempdir().unwrap();
        let identities = Identities::new(identities(folder.path(), &[&["a.example"]])).unwrap();
        let config = identities.choose(None).unwrap().config;
        for suite in &config.crypto_provider().cipher_suites {
            let name = format!("{:?}", suite.suite());
            assert!(name.contains("_GCM_") || name.ends_with("_POLY1305_SHA256"), "{name}");
            assert!(matches!(suite, SupportedCipherSuite::Tls13(_)) || name.starts_with("TLS_ECDHE_"), "{name}");
        }
        let weak = [NamedGroup::FFDHE2048, NamedGroup::FFDHE3072, NamedGroup::secp521r1];
        assert!(config.crypto_provider().kx_groups.iter().all(|group| !weak.contains(&group.name())));
        assert_eq!(config.max_early_data_size, 0, "early data could be replayed");
        // 12 hours: two keys, each of which encrypts for 6 hours.
        assert!(config.ticketer.enabled());
        assert_eq!(config.ticketer.lifetime(), 12 * 60 * 60);
    }
}
