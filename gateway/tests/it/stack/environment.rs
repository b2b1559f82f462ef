//! The original's `.env` file as the only configuration of both programs, and `check`.

use super::Stack;
use super::mongod::Server;
use super::process::{GATEWAY, output, wait_for};
use crate::support::token;

#[test]
fn the_originals_env_file_is_enough_for_a_mongodb_with_a_login() {
    // Characters that a URL would have to escape.
    let server = Server::start(&["--auth", "holoduser:p@ss:w/rd%"]);
    let host = server.url().split_once('@').unwrap().1.split('/').next().unwrap().to_owned();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join(".env");
    let text = format!(
        "MONGODB_USER=\"holoduser\"\nMONGODB_PASSWORD=\"p@ss:w/rd%\"\nMONGODB_HOST=\"{host}\"\nJWT_SECRET_KEY=\"{}\"\n",
        token::secret()
    );
    std::fs::write(&file, text).unwrap();
    let stack = Stack::with_env_file(&file);
    stack.load();
    let token = stack.token("user01", "password01");
    let day = stack.get("/Holodules/20201209", &token);
    assert_eq!((day.status, &day.json()["result"]), (200, &serde_json::json!(17)));
    // The secret is that of the file, so a token of the original is accepted. Tokens of the second in which the user was
    // added are not.
    wait_for("a token of the original", || {
        (stack.get("/Holodules/20201209", &token::token("user01")).status == 200).then_some(())
    });
}

#[test]
fn a_configuration_is_checked_without_starting() {
    let folder = tempfile::tempdir().unwrap();
    let check = |secret: &str| {
        let mut command = std::process::Command::new(GATEWAY);
        command.env_clear().current_dir(folder.path()).arg("check");
        command.envs([("LISTENER_MAX_CONNECTIONS", "256"), ("UPSTREAM_MAX_CONNECTIONS", "128")]);
        command.envs([("TLS_CERTIFICATE", "cert.pem"), ("TLS_PRIVATE_KEY", "key.pem"), ("JWT_SECRET_KEY", secret)]);
        let output = output(&mut command, "");
        (output.status.code(), [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap()).concat())
    };
    let (code, output) = check("hush-hush");
    assert_eq!(code, Some(1));
    for key in ["tls.certificate", "tls.private_key", "jwt_secret_key"] {
        assert!(output.contains(&format!("  {key}, from ")), "{output}");
    }
    assert!(!output.contains("hush"), "{output}");
    let certificates = crate::support::certificate::certificates();
    std::fs::write(folder.path().join("cert.pem"), &certificates.leaf).unwrap();
    std::fs::write(folder.path().join("key.pem"), &certificates.key).unwrap();
    let (code, output) = check(&token::secret());
    assert_eq!(code, Some(0), "{output}");
    assert!(output.ends_with("the configuration is valid\n"), "{output}");
}
