//! The certificates we show, and the TLS we speak: versions 1.2 and 1.3, with ephemeral key
//! exchange and authenticated encryption alone (RFC 9325), as rustls has nothing else.

use std::sync::{Arc, PoisonError, RwLock};

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::server::{ProducesTickets, ServerSessionMemoryCache, StoresServerSessions};
use rustls::sign::SingleCertAndKey;

use super::identity::Identity;

/// Sessions that are remembered for clients of TLS 1.2 that take no tickets. All others bring
/// their session along, so that any number of them can resume.
const SESSIONS: usize = 4096;

/// The certificates that are shown, of which the name that a client asks for chooses one
/// (RFC 6066, section 3). They can be replaced while connections are open.
pub struct Identities {
    resumption: Resumption,
    served: RwLock<Arc<[Served]>>,
}

/// A certificate, and the TLS that shows it and no other: the connection that was set up by it
/// knows which names it speaks for, whatever is replaced in the meantime.
#[derive(Clone)]
pub(crate) struct Served {
    pub(crate) identity: Arc<Identity>,
    pub(crate) config: Arc<ServerConfig>,
}

/// What lets a client resume its session. All certificates share it and it outlives them; a
/// session resumes for the name alone for which it began (RFC 6066, section 3), which rustls
/// sees to.
struct Resumption {
    /// Encrypts tickets under a key that changes after 6 hours, and reads them for as long again.
    tickets: Arc<dyn ProducesTickets>,
    sessions: Arc<dyn StoresServerSessions>,
}

impl Identities {
    /// Shows these certificates: to who asks for a name, the first that has it, else the first
    /// that has a wildcard for it; to who asks for none or another, the first of all.
    ///
    /// # Errors
    /// There is no certificate, or the system gives no random bytes.
    pub fn new(identities: Vec<Identity>) -> Result<Self, rustls::Error> {
        let resumption =
            Resumption { tickets: aws_lc_rs::Ticketer::new()?, sessions: ServerSessionMemoryCache::new(SESSIONS) };
        let served = RwLock::new(serve(identities, &resumption)?);
        Ok(Self { resumption, served })
    }

    /// Shows these certificates from the next handshake on. Connections that are open stay as
    /// they are, and sessions that began under the old ones resume.
    ///
    /// # Errors
    /// As [`Identities::new`]; what was shown before is shown still.
    pub fn replace(&self, identities: Vec<Identity>) -> Result<(), rustls::Error> {
        let served = serve(identities, &self.resumption)?;
        *self.served.write().unwrap_or_else(PoisonError::into_inner) = served;
        Ok(())
    }

    /// The certificates, in the order in which they were given.
    pub fn all(&self) -> Vec<Arc<Identity>> {
        self.current().iter().map(|served| Arc::clone(&served.identity)).collect()
    }

    /// Whether any of the certificates has `host` (as [`Identity::covers`] reads it).
    pub fn covers(&self, host: &str) -> bool {
        self.current().iter().any(|served| served.identity.covers(host))
    }

    /// What is shown to a client that asks for `name`.
    pub(crate) fn choose(&self, name: Option<&str>) -> Option<Served> {
        let served = self.current();
        let name = name.map(str::to_ascii_lowercase);
        let exact = name.as_ref().and_then(|name| served.iter().find(|served| served.identity.names(name)));
        let any = || name.as_ref().and_then(|name| served.iter().find(|served| served.identity.covers(name)));
        exact.or_else(any).or(served.first()).cloned()
    }

    fn current(&self) -> Arc<[Served]> {
        Arc::clone(&self.served.read().unwrap_or_else(PoisonError::into_inner))
    }
}

fn serve(identities: Vec<Identity>, resumption: &Resumption) -> Result<Arc<[Served]>, rustls::Error> {
    if identities.is_empty() {
        return Err(rustls::Error::NoCertificatesPresented);
    }
    let serve = |identity: Identity| {
        let config = Arc::new(server_config(&identity, resumption)?);
        Ok(Served { identity: Arc::new(identity), config })
    };
    identities.into_iter().map(serve).collect()
}

/// The TLS side of the listener, for one certificate.
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
    // One ticket resumes once; the default of two costs every handshake a second one.
    config.send_tls13_tickets = 1;
    // Early data can be replayed by whoever saw it (RFC 8446, section 8): none is taken.
    config.max_early_data_size = 0;
    Ok(config)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use rustls::{NamedGroup, SupportedCipherSuite};

    use super::*;

    fn identity(folder: &Path, names: &[&str]) -> Identity {
        let made = rcgen::generate_simple_self_signed(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        let made = made.unwrap();
        let [certificate, key] = ["cert.pem", "key.pem"].map(|name| folder.join(name));
        std::fs::write(&certificate, made.cert.pem()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        Identity::read(&certificate, &key).unwrap()
    }

    fn identities(folder: &Path, names: &[&[&str]]) -> Vec<Identity> {
        names.iter().map(|names| identity(folder, names)).collect()
    }

    /// The first name of what is shown to a client that asks for `name`.
    fn shown(identities: &Identities, name: Option<&str>) -> String {
        identities.choose(name).unwrap().identity.names[0].clone()
    }

    #[test]
    fn an_exact_name_wins_over_a_wildcard_and_no_name_gets_the_first() {
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
            assert_eq!(shown(&identities, name), expected, "{name:?}");
        }
        // Of two that have the name, the first.
        assert_eq!(identities.choose(Some("api.example.org")).unwrap().identity.names.len(), 1);
        assert!(identities.covers("www.example.org") && identities.covers("first.example"));
        assert!(!identities.covers("elsewhere.example"));
    }

    #[test]
    fn what_is_shown_can_be_replaced_and_what_was_given_out_stays() {
        let folder = tempfile::tempdir().unwrap();
        let shown_first = Identities::new(identities(folder.path(), &[&["old.example"]])).unwrap();
        let before = shown_first.choose(None).unwrap();
        let tickets = Arc::clone(&before.config.ticketer);
        shown_first.replace(identities(folder.path(), &[&["new.example"], &["old.example"]])).unwrap();
        assert_eq!(before.identity.names, ["old.example"]);
        assert_eq!(shown(&shown_first, None), "new.example");
        assert!(Arc::ptr_eq(&tickets, &shown_first.choose(None).unwrap().config.ticketer), "sessions resume");
        // Nothing to show is no replacement.
        assert!(shown_first.replace(Vec::new()).is_err());
        assert_eq!(shown(&shown_first, None), "new.example");
        assert!(Identities::new(Vec::new()).is_err());
    }

    #[test]
    fn nothing_but_ephemeral_exchange_and_authenticated_encryption_is_spoken() {
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
        // 12 hours of two keys, each of which writes for 6.
        assert!(config.ticketer.enabled());
        assert_eq!(config.ticketer.lifetime(), 12 * 60 * 60);
    }
}
