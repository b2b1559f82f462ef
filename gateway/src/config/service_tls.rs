//! `http` and `tls` of a `[[service]]`: the version of HTTP, the CAs, the name and the client certificate.

use std::path::PathBuf;
use std::sync::Arc;

use super::certificates;
use super::section::Section;
use crate::tls::{Authorities, ClientSide, Purpose};
use crate::upstream::{Address, Tls, TlsSettings};
use holodule_settings::{Source, shown as quoted};

/// Reads `http`: whether it is version 2.
pub(super) fn read_is_http2(source: &mut Source, service: &mut Section) -> bool {
    match service.text(source, "http").as_deref() {
        None | Some("1.1") => false,
        Some("2") => true,
        Some(other) => {
            service.problem(source, "http", format!("{} must be \"1.1\" or \"2\"", quoted(other)));
            false
        }
    }
}

/// Reads `tls` of the service at `addresses`, and its files; `None` if it is missing or invalid.
pub(super) fn read(
    source: &mut Source,
    service: &mut Section,
    addresses: &[Address],
    is_http2: bool,
) -> Option<Arc<Tls>> {
    let mut section = service.table(source, "tls")?;
    let ca = section.required(source, "ca", "the PEM file of the trusted CAs").map(PathBuf::from);
    if let Some(ca) = &ca {
        source.reads(ca);
    }
    let authorities = ca.as_deref().and_then(|ca| match Authorities::read(ca) {
        Ok(authorities) => Some(authorities),
        Err(reason) => {
            section.problem(source, "ca", format!("{}{reason}", certificates::shown(ca)));
            None
        }
    });
    let server_name = section.text(source, "server_name");
    for address in addresses {
        if Tls::server_name(server_name.as_deref(), address).is_none() {
            let reason = match &server_name {
                Some(name) => format!("{} must be a DNS name or an IP address", quoted(name)),
                None => format!("is required: {address} is not a name that a certificate can have"),
            };
            section.problem(source, "server_name", reason);
            break;
        }
    }
    let identity = read_files(source, &mut section);
    let path = section.path().to_owned();
    section.finish(source);
    let own = match &identity {
        None => None,
        Some((certificate, key)) => {
            Some(certificates::read_pair(source, &path, Some(certificate), Some(key), Purpose::Client)?)
        }
    };
    match ClientSide::new(authorities?, own, if is_http2 { "h2" } else { "http/1.1" }) {
        Ok(client) => Some(Arc::new(Tls::new(TlsSettings { ca: ca?, server_name, identity }, client))),
        Err(error) => {
            source.problem(&path, format!("TLS cannot be set up: {error}"));
            None
        }
    }
}

/// The files of the certificate and of the private key, which need each other.
fn read_files(source: &mut Source, section: &mut Section) -> Option<(PathBuf, PathBuf)> {
    match (section.has("certificate"), section.has("private_key")) {
        (true, false) => section.problem(source, "private_key", "is required with certificate"),
        (false, true) => section.problem(source, "certificate", "is required with private_key"),
        _ => {}
    }
    let certificate = section.text(source, "certificate").map(PathBuf::from);
    let private_key = section.text(source, "private_key").map(PathBuf::from);
    certificate.zip(private_key)
}

/// Warnings about the files of each service with TLS at `now` (seconds since 1970), each with its key.
pub(super) fn warnings<'a>(services: impl Iterator<Item = Option<&'a Tls>>, now: i64) -> Vec<String> {
    let mut warnings = Vec::new();
    for (place, tls) in services.enumerate().filter_map(|(place, tls)| Some((place, tls?))) {
        for (key, doubts) in ["ca", "certificate", "private_key"].into_iter().zip(tls.client().warnings(now)) {
            warnings.extend(doubts.iter().map(|doubt| format!("service[{place}].tls.{key}: {doubt}")));
        }
    }
    warnings
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use holodule_settings::{Environment, Problem, Problems};
    use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, KeyPair};
    use time::{Duration, OffsetDateTime};

    use super::*;
    use crate::config::Service;
    use crate::config::route_tables::read_services_and_routes;

    const NOW: i64 = 1_800_000_000;

    fn write(folder: &Path, name: &str, text: &str) {
        std::fs::write(folder.join(name), text).unwrap();
    }

    /// A certificate, without a name, that expires after `validity`, and its key.
    fn pair(folder: &Path, name: &str, validity: Duration, usage: ExtendedKeyUsagePurpose) {
        let mut params = CertificateParams::default();
        let now = OffsetDateTime::from_unix_timestamp(NOW).unwrap();
        (params.not_before, params.not_after) = (now - Duration::days(100), now + validity);
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().unwrap();
        write(folder, &format!("{name}.pem"), &params.self_signed(&key).unwrap().pem());
        write(folder, &format!("{name}.key"), &key.serialize_pem());
    }

    /// Services with these fields, in which `FOLDER` is the path of `folder`.
    fn services(folder: &Path, fields: &[&str]) -> Result<Vec<Service>, Vec<String>> {
        let tables: String = fields
            .iter()
            .enumerate()
            .map(|(place, fields)| format!("[[service]]\nname = 's{place}'\n{fields}\n"))
            .collect();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), tables.replace("FOLDER", folder.to_str().unwrap())).unwrap();
        let mut source = Source::read(Some(file.path()), Environment::default());
        let (services, _) = read_services_and_routes(&mut source);
        let reported = |problem: Problem| format!("{}: {}", problem.subject(), problem.reason);
        source.finish_with(|| Some(services)).map_err(|Problems(problems)| problems.into_iter().map(reported).collect())
    }

    #[test]
    fn the_files_are_read_and_their_warnings_name_the_key() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        pair(path, "ca", Duration::days(-1), ExtendedKeyUsagePurpose::ServerAuth);
        pair(path, "client", Duration::days(1), ExtendedKeyUsagePurpose::ServerAuth);
        let fields = [
            "addresses = ['app.internal:443', '10.0.0.1:443']\nhttp = '2'\ntls = { ca = 'FOLDER/ca.pem' }",
            "addresses = ['unix:/run/app.sock']\n[service.tls]\nca = 'FOLDER/ca.pem'\nserver_name = 'app.internal'\n\
             certificate = 'FOLDER/client.pem'\nprivate_key = 'FOLDER/client.key'",
        ];
        let read = services(path, &fields).unwrap();
        assert_eq!(
            warnings(read.iter().map(|service| service.tls.as_deref()), NOW),
            [
                "service[0].tls.ca: certificate 1 of the file expired on 2027-01-14T08:00:00Z, and is trusted nevertheless",
                "service[1].tls.ca: certificate 1 of the file expired on 2027-01-14T08:00:00Z, and is trusted nevertheless",
                "service[1].tls.certificate: the certificate expires on 2027-01-16T08:00:00Z, in less than 14 days: renew it",
                "service[1].tls.certificate: the extended key usage of the certificate is without clientAuth, so services \
                 refuse it: have it issued for a TLS client",
            ]
        );
        let without = services(path, &["addresses = ['a:1']"]).unwrap();
        assert_eq!([&read[0], &read[1], &without[0]].map(|service| service.is_http2), [true, false, false]);
        assert!(without[0].tls.is_none() && read[0].tls.is_some() && read[0].tls != read[1].tls);
    }

    #[test]
    fn every_error_is_reported_with_its_key_and_no_content_of_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        pair(path, "a", Duration::days(1), ExtendedKeyUsagePurpose::ClientAuth);
        pair(path, "b", Duration::days(1), ExtendedKeyUsagePurpose::ClientAuth);
        let fields = [
            "addresses = ['a:1']\nhttp = '3'\ntls = true",
            "addresses = ['a:1']\ntls = { verify = false }",
            "addresses = ['a:1', 'unix:/run/a']\ntls = { ca = 'FOLDER/a.key' }",
            "addresses = ['a:1']\ntls = { ca = 'FOLDER/a.pem', server_name = 'a b' }",
            "addresses = ['a..b:1']\ntls = { ca = 'FOLDER/a.pem', certificate = 'FOLDER/a.pem' }",
            "addresses = ['a:1']\ntls = { ca = 'FOLDER/a.pem', private_key = 'FOLDER/a.key' }",
            "addresses = ['a:1']\ntls = { ca = 'FOLDER/a.pem', certificate = 'FOLDER/a.pem', private_key = 'FOLDER/b.key' }",
            "addresses = ['a:1']\ntls = { ca = '-----BEGIN', certificate = 'FOLDER/none', private_key = 'FOLDER/a.key' }",
        ];
        let reported = services(path, &fields).unwrap_err();
        let expected = [
            "service[0].http: \"3\" must be \"1.1\" or \"2\"",
            "service[0].tls: must be a table, not true",
            "service[1].tls.ca: is required: the PEM file of the trusted CAs",
            "service[1].tls.verify: unknown key",
            "service[2].tls.ca: FOLDER/a.key: the file holds a private key and no certificate",
            "service[2].tls.server_name: is required: unix:/run/a is not a name that a certificate can have",
            "service[3].tls.server_name: \"a b\" must be a DNS name or an IP address",
            "service[4].tls.server_name: is required: a..b:1 is not a name that a certificate can have",
            "service[4].tls.private_key: is required with certificate",
            "service[5].tls.certificate: is required with private_key",
            "service[6].tls.private_key: FOLDER/b.key: the private key is not the key of the certificate",
            "service[7].tls.ca: the value must be the path of a file, and not its content: ",
            "service[7].tls.certificate: FOLDER/none: the file cannot be read: ",
        ];
        assert_eq!(reported.len(), expected.len(), "{reported:#?}");
        for (reported, expected) in reported.iter().zip(expected) {
            assert!(reported.starts_with(&expected.replace("FOLDER", path.to_str().unwrap())), "{reported}");
        }
    }
}
