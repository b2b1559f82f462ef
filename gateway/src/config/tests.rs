use super::effective::reference;
use super::*;
use crate::route::RouteTable;

fn read(toml: &str, environment: &[(&str, &str)]) -> Result<Config, Problems> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), toml).unwrap();
    let environment = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    Config::read_within(Some(file.path()), environment, u64::MAX)
}

fn keys_of(problems: &Problems) -> Vec<&str> {
    problems.0.iter().map(|problem| problem.key.as_str()).collect()
}

#[test]
fn missing_required_keys_are_reported_together() {
    let problems = read("", &[]).err().unwrap();
    assert_eq!(keys_of(&problems), ["tls.certificate", "tls.private_key", "jwt_secret_key"]);
}

#[test]
fn every_invalid_value_is_reported_with_its_key_and_no_secret() {
    let problems = read(
        "jwt_secret_key = 'hush-hush'\nhttps_addr = 'x'\nhosts = ['a:1']\ncors.allowed_origins = ['*', 'https://a.example/']\nstrip_prefix = ['/a/']\nnonsense = 1\n\
         [upstream]\napi = '1'\nread_timeout = -1\n[token]\nlifetime = 0\n[log]\nlevel = 'loud'\n\
         [limit.address]\nrate = -1\n[limit.identity]\nburst = 0\n\
         [limit.login]\naddress_failures = 101\nname_delay = 2\nname_max_delay = 1\n\
         [[route]]\nmethods = []\npath = '/a'\n[[route]]\nmethods = ['GET']\npath = '/b'\nname = 'auth'\n",
        &[("LISTENER_WORKERS", "none")],
    )
    .err()
    .unwrap();
    let expected = [
        "https_addr",
        "tls.certificate",
        "tls.private_key",
        "listener.workers",
        "hosts",
        "cors.allowed_origins",
        "cors.allowed_origins",
        "limit.login.address_failures",
        "limit.login.name_max_delay",
        "limit.address.rate",
        "limit.identity.burst",
        "route[0].methods",
        "route[1].name",
        "strip_prefix",
        "token.lifetime",
        "jwt_secret_key",
        "upstream.api",
        "upstream.read_timeout",
        "log.level",
        "nonsense",
    ];
    assert_eq!(keys_of(&problems), expected);
    assert!(!problems.to_string().contains("hush"), "{problems}");
}

#[test]
fn a_short_secret_in_the_environment_is_refused() {
    let problems = read("", &[("JWT_SECRET_KEY", "only-thirty-one-bytes-long-here")]).err().unwrap();
    let reported: Vec<_> = problems.0.iter().filter(|problem| problem.key == "jwt_secret_key").collect();
    assert_eq!(reported[0].reason, "has 31 bytes; at least 32 are required");
}

#[test]
fn invalid_addresses_and_routes_are_reported_with_an_example_and_an_index() {
    let problems = read(
        "https_addr = 'localhost:8443'\n[[route]]\nname = 'a'\npath = '/a'\n[[route]]\nmethods = ['GET']\npath = 'b'\n",
        &[("HTTP_ADDR", "80"), ("OPS_ADDR", "")],
    )
    .err()
    .unwrap();
    for key in ["https_addr", "http_addr", "ops_addr"] {
        let reported: Vec<_> = problems.0.iter().filter(|problem| problem.key == key).collect();
        assert_eq!(reported.len(), 1, "{problems}");
        assert_eq!(reported[0].reason, "must be an IP address with a port, as in 127.0.0.1:8443 or [::]:443");
    }
    assert!(problems.to_string().contains("route[0].methods: is required: the methods"), "{problems}");
    assert!(problems.to_string().contains("route[1].path: \"b\" does not begin with a slash"), "{problems}");
}

#[test]
fn routes_can_come_from_the_environment() {
    let problems = read("", &[("ROUTE", "[{ methods = ['GET'], path = 'a' }]")]).err().unwrap();
    assert!(problems.to_string().contains("route[0].path, from ROUTE: \"a\" does not begin"), "{problems}");
}

#[test]
fn the_forwarded_host_is_upstream_or_client() {
    for host in ["'both'", "'Client'", "''", "true"] {
        let route = format!("[{{ methods = ['GET'], path = '/a', host = {host} }}]");
        let problems = read("", &[("ROUTE", &route)]).err().unwrap();
        assert!(keys_of(&problems).contains(&"route[0].host"), "{host}: {problems}");
    }
}

#[test]
fn an_invalid_redirect_port_is_refused() {
    for port in ["0", "65536", "-1", "'https'"] {
        let problems = read(&format!("[redirect]\nport = {port}\n"), &[]).err().unwrap();
        assert!(keys_of(&problems).contains(&"redirect.port"), "{port}: {problems}");
    }
    let problems = read("[redirect]\nport = 65535\n", &[("REDIRECT_PORT", "1")]).err().unwrap();
    assert!(!problems.to_string().contains("redirect"), "{problems}");
}

#[test]
fn invalid_proxy_settings_are_reported() {
    let problems = read(
        "[client]\ntrusted_proxies = ['10.0.0.0/8', 'nginx', '0.0.0.0/0']\nheader = 'Forwarded'\n",
        &[("CLIENT_HEADER", "X Y")],
    )
    .err()
    .unwrap();
    let reported: Vec<_> = problems.0.iter().filter(|problem| problem.key.starts_with("client.")).collect();
    assert_eq!(reported.len(), 3, "{problems}");
    assert!(
        reported[0].reason.starts_with("\"nginx\"") && reported[1].reason.starts_with("\"0.0.0.0/0\""),
        "{problems}"
    );
    assert_eq!((reported[2].key.as_str(), reported[2].reason.as_str()), ("client.header", "is not a header name"));
    let problems = read("[client]\nheader = 'forwarded'\n", &[]).err().unwrap();
    assert!(keys_of(&problems).contains(&"client.header"), "{problems}");
    let problems = read("[listener]\nproxy_protocol = true\n", &[]).err().unwrap();
    assert!(keys_of(&problems).contains(&"listener.proxy_protocol"), "{problems}");
}

/// A self-signed certificate for `localhost`.
fn certificate(folder: &Path) -> [(String, String); 2] {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let [certificate, key] = ["cert.pem", "key.pem"].map(|name| folder.join(name));
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let text = |path: PathBuf| path.to_str().unwrap().to_owned();
    [("TLS_CERTIFICATE".to_owned(), text(certificate)), ("TLS_PRIVATE_KEY".to_owned(), text(key))]
}

#[test]
fn each_invalid_certificate_is_reported_with_its_key() {
    let folder = tempfile::tempdir().unwrap();
    let [first, second] = ["first", "second"].map(|name| folder.path().join(name));
    for folder in [&first, &second] {
        std::fs::create_dir(folder).unwrap();
    }
    let [(_, pem), (_, key)] = certificate(&first);
    let [_, (_, other_key)] = certificate(&second);
    let toml = format!(
        "[[certificate]]\ncertificate = '{pem}'\nprivate_key = '{key}'\n\
         [[certificate]]\ncertificate = '{pem}'\nprivate_key = '{other_key}'\n\
         [[certificate]]\ncertificate = '{key}'\nprivate_key = '{key}'\n"
    );
    let environment = [("TLS_CERTIFICATE", pem.as_str()), ("TLS_PRIVATE_KEY", &key)];
    let problems = read(&toml, &environment).err().unwrap();
    let expected = ["certificate[1].private_key", "certificate[2].certificate", "jwt_secret_key"];
    assert_eq!(keys_of(&problems), expected, "{problems}");
    let unknown = read("[[certificate]]\ncertificate = 'a'\nkey = 'b'\n", &environment).err().unwrap();
    let expected = ["certificate[0].private_key", "certificate[0].key", "certificate[0].certificate", "jwt_secret_key"];
    assert_eq!(keys_of(&unknown), expected, "{unknown}");
}

#[test]
fn an_invalid_certificate_does_not_hide_an_invalid_key() {
    let folder = tempfile::tempdir().unwrap();
    let [(_, certificate), (_, key)] = certificate(folder.path());
    let [no_pem, missing] = ["no.pem", "missing.pem"].map(|name| folder.path().join(name).to_str().unwrap().to_owned());
    std::fs::write(&no_pem, "hush").unwrap();
    let toml = format!(
        "[[certificate]]\ncertificate = '{no_pem}'\nprivate_key = '{missing}'\n\
         [[certificate]]\ncertificate = '{no_pem}'\nprivate_key = '{key}'\n\
         [[certificate]]\nprivate_key = '{no_pem}'\n[[certificate]]\ncertificate = '{missing}'\n"
    );
    let environment = [("TLS_CERTIFICATE", certificate.as_str()), ("TLS_PRIVATE_KEY", &no_pem)];
    let problems = read(&toml, &environment).err().unwrap();
    let expected = [
        "certificate[2].certificate",
        "certificate[3].private_key",
        "tls.private_key",
        "certificate[0].certificate",
        "certificate[0].private_key",
        "certificate[1].certificate",
        "certificate[2].private_key",
        "certificate[3].certificate",
        "jwt_secret_key",
    ];
    assert_eq!(keys_of(&problems), expected, "{problems}");
    assert!(!problems.to_string().contains("hush"), "{problems}");
}

#[test]
fn every_error_of_every_route_is_reported() {
    let problems = read(
        "[[route]]\nname = 1\nmethods = 'GET'\npath = '/a'\nshared = 'x'\ncache = 2\nquery = [1]\nhush = 1\n\
         [[route]]\nmethods = ['TRACE', 'a b']\npath = 'b'\naliases = ['/c//d', '{']\ncache = true\nvary = ['x y']\ncompress = ['gzip', 'br', 'gzip', 'deflate']\n\
         [[route]]\nname = 'a'\nmethods = ['GET']\npath = '/e'\n[[route]]\nname = 'a'\nmethods = []\npath = '/f'\n",
        &[],
    );
    let problems = problems.err().unwrap();
    let keys: Vec<_> = keys_of(&problems).into_iter().filter(|key| key.starts_with("route")).collect();
    let expected = [
        "route[0].name",
        "route[0].methods",
        "route[0].query",
        "route[0].shared",
        "route[0].cache",
        "route[0].hush",
        "route[1].path",
        "route[1].aliases",
        "route[1].aliases",
        "route[1].methods",
        "route[1].methods",
        "route[1].cache",
        "route[1].vary",
        "route[1].compress",
        "route[1].compress",
        "route[3].name",
        "route[3].methods",
    ];
    assert_eq!(keys, expected, "{problems}");
    let problems = read("route = [1]\n", &[]).err().unwrap();
    assert!(problems.to_string().contains("route: must be a list of tables"), "{problems}");
}

#[test]
fn an_unreadable_file_is_reported_once_with_invalid_variables() {
    let folder = tempfile::tempdir().unwrap();
    let broken = folder.path().join("broken.toml");
    std::fs::write(&broken, "[tls]\ncertificate = 'hush\n").unwrap();
    for file in [broken, folder.path().join("missing.toml")] {
        let shown = file.to_str().unwrap().to_owned();
        let read = |environment: &[(&str, &str)]| {
            let environment = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            Config::read_within(Some(&file), environment, u64::MAX).err().unwrap()
        };
        assert_eq!(keys_of(&read(&[])), [shown.as_str()]);
        let problems = read(&[("ACME_CHALLENGES", "/tmp"), ("HTTPS_ADDR", "x"), ("LISTENER_PROXY_PROTOCOL", "true")]);
        assert_eq!(keys_of(&problems), [shown.as_str(), "https_addr"], "{problems}");
    }
}

#[test]
fn an_invalid_dotenv_line_causes_no_further_problems() {
    let folder = tempfile::tempdir().unwrap();
    let dotenv = folder.path().join(".env");
    std::fs::write(&dotenv, "JWT_SECRET_KEY 'hush'\nOPS_ADDR=x\n").unwrap();
    let problems = Config::load(None, &dotenv).err().unwrap();
    let expected = format!(
        "the configuration has 2 problems:\n  {}: line 1 has no `=` after a name\n  \
         ops_addr, from OPS_ADDR in .env: must be an IP address with a port, as in 127.0.0.1:8443 or [::]:443\n",
        dotenv.display()
    );
    assert_eq!(problems.to_string(), expected);
}

#[test]
fn the_reference_has_every_key_at_its_default() {
    let folder = tempfile::tempdir().unwrap();
    let mut environment = certificate(folder.path()).to_vec();
    environment.push(("JWT_SECRET_KEY".to_owned(), "k".repeat(32)));
    let environment: Environment = environment.into_iter().collect();
    let file = folder.path().join("gateway.toml");
    // Without the keys that have no default; the number of workers depends on the machine.
    let workers = std::thread::available_parallelism().unwrap().get();
    let settings = reference().replace("workers = 2", &format!("workers = {workers}"));
    let has_default =
        |line: &&str| *line != "[[certificate]]" && *line != "certificate = \"\"" && *line != "private_key = \"\"";
    let settings: Vec<_> = settings.lines().filter(has_default).collect();
    std::fs::write(&file, settings.join("\n")).unwrap();
    let written = Config::read_within(Some(&file), environment.clone(), u64::MAX)
        .map_err(|problems| problems.to_string())
        .unwrap();
    let default = Config::read_within(None, environment, u64::MAX).map_err(|problems| problems.to_string()).unwrap();
    assert_eq!(written.https_addr, default.https_addr);
    assert_eq!(written.http_addr, default.http_addr);
    assert_eq!(written.redirect_port, Some(default.https_addr.port()));
    assert_eq!(default.redirect_port, None);
    assert_eq!(written.acme_challenges, default.acme_challenges);
    assert_eq!(written.ops_addr, default.ops_addr);
    assert_eq!(written.announce_file, default.announce_file);
    assert_eq!(written.listener, default.listener);
    assert_eq!(written.proxies, default.proxies);
    assert_eq!(written.flow, default.flow);
    assert_eq!(written.limit, default.limit);
    assert_eq!((written.api, written.admin), (default.api, default.admin));
    assert_eq!(written.upstream, default.upstream);
    assert_eq!(written.log, default.log);
    assert_eq!(format!("{:?}", written.keys), format!("{:?}", default.keys));
    let routes = |table: &RouteTable| table.iter().map(|route| format!("{route:?}")).collect::<Vec<_>>();
    assert_eq!(routes(&written.routes), routes(&default.routes));

    let table = toml::Value::Table(reference().parse().unwrap());
    for key in default.keys_read.iter().filter(|key| !key.ends_with("_file") || *key == "announce_file") {
        let found = key.split('.').try_fold(&table, |value, part| value.get(part));
        assert!(found.is_some(), "{key} is missing in ops/config/gateway.toml");
    }
}

#[test]
fn effective_values_are_shown_with_their_origin_and_no_secret() {
    let folder = tempfile::tempdir().unwrap();
    let [certificate, (_, private_key)] = certificate(folder.path());
    let dotenv = folder.path().join(".env");
    std::fs::write(&dotenv, format!("TLS_PRIVATE_KEY={private_key}\nLOG_LEVEL=warn\n")).unwrap();
    let toml = folder.path().join("gateway.toml");
    let secret = "hush".repeat(10);
    let text = format!(
        "hosts = ['a.example']\n[[key]]\nkid = 'a'\nsecret = '{secret}'\n[limit.address]\nrate = 7\n\
         [[static_token]]\nname = 'collector'\nsha256 = '{}'\nroutes = ['*']\n",
        crate::token::Digest::of(b"hush")
    );
    std::fs::write(&toml, text).unwrap();
    let process = [certificate, ("TOKEN_LIFETIME".to_owned(), "60".to_owned())].into_iter().collect();
    let environment = holodule_settings::overlay(process, &dotenv, &[]).environment;
    let config = Config::read_within(Some(&toml), environment, u64::MAX).map_err(|problems| problems.to_string());
    let shown = config.unwrap().effective();
    for line in [
        "https_addr = \"127.0.0.1:8443\"  # default",
        "hosts = [\"a.example\"]  # from the configuration file",
        "key[0].kid = \"a\"  # from the configuration file",
        "key[0].secret = (secret)  # from the configuration file",
        "static_token[0].name = \"collector\"  # from the configuration file",
        "static_token[0].sha256 = (secret)  # from the configuration file",
        "limit.address.rate = 7  # from the configuration file",
        "limit.address.burst = 2000  # default",
        "token.lifetime = 60  # from TOKEN_LIFETIME",
        "log.level = \"warn\"  # from LOG_LEVEL in .env",
        "route[1].path = \"/holodules/{day}\"  # default",
        "# jwt_secret_key is not set",
        "# certificate is not set",
    ] {
        assert!(shown.iter().any(|shown| shown == line), "{line}\n{}", shown.join("\n"));
    }
    assert!(!shown.join("\n").contains("hush"), "{shown:?}");
    let workers = std::thread::available_parallelism().unwrap().get();
    assert!(shown.contains(&format!("listener.workers = {workers}  # default")));
}

#[test]
fn a_misspelt_variable_causes_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    let warnings = |name: &str| {
        let mut environment: Environment = certificate(folder.path()).into_iter().collect();
        environment.insert("JWT_SECRET_KEY".to_owned(), "k".repeat(32));
        environment.insert(name.to_owned(), "hush".to_owned());
        let config = Config::read_within(None, environment, u64::MAX).map_err(|problems| problems.to_string());
        let warnings = config.unwrap().warnings(0);
        warnings.into_iter().filter(|warning| warning.contains("variable")).collect::<Vec<_>>().join("\n")
    };
    for (name, meant) in [
        ("HTTPS_ADR", "HTTPS_ADDR"),
        ("HTTPS_ADDRR", "HTTPS_ADDR"),
        ("HTTSP_ADDR", "HTTPS_ADDR"),
        ("JWT_SECRET_KAY", "JWT_SECRET_KEY"),
        ("JWT_SECRET_KEY_FIL", "JWT_SECRET_KEY_FILE"),
        ("Log_Level", "LOG_LEVEL"),
        ("HOSTZ", "HOSTS"),
    ] {
        assert_eq!(warnings(name), format!("the variable {name} is not known and is ignored; is {meant} meant?"));
    }
    for name in ["HOST", "PORT", "HOME", "HOSTNAME", "KEYS", "LANG", "API_ADDR", "ADMIN_ADDR", "STORE", "MONGODB_HOST"]
    {
        assert_eq!(warnings(name), "", "{name}");
    }
}
