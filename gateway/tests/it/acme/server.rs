//! An ACME server (RFC 8555) with renewal information (RFC 9773) and profiles, whose certificates have any validity.
//! It validates nothing, and checks of a signature only that it is there: `ops/checks/test_acme_client.py` uses pebble.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, PublicKeyData, SignatureAlgorithm};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use time::OffsetDateTime;
use tokio::net::TcpListener;
use tokio::time::sleep;
use tokio_rustls::TlsAcceptor;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer as _;

use crate::support::certificate::certificates;

/// The server.
#[derive(Clone)]
pub struct Server {
    /// The URL of its directory.
    pub directory: String,
    state: Arc<Mutex<State>>,
}

/// What it does, and what it has received.
pub struct State {
    base: String,
    issuer: CertifiedIssuer<'static, KeyPair>,
    /// The validity of the certificates that it issues, in seconds since 1970.
    pub validity: (i64, i64),
    /// The suggested window; without one, the server has no renewal information.
    pub window: Option<(i64, i64)>,
    /// The problem that it returns for the next orders: type, status, and `Retry-After`.
    pub problem: Option<(&'static str, u16, &'static str)>,
    /// The name for which it issues no certificate.
    pub refused_name: &'static str,
    /// Whether it does not yet respond to requests for the state of an order.
    pub stalls: bool,
    /// The number of requests that it did not respond to at once for that reason.
    pub stalled: usize,
    /// Whether it refuses an order that replaces a certificate.
    pub refuses_replacement: bool,
    /// The payloads of all orders.
    pub orders: Vec<Value>,
    /// The payloads of all accounts and their changes.
    pub accounts: Vec<Value>,
    /// The number of requests, of requests for renewal information, and of certificates.
    pub requests: usize,
    pub renewal_infos: usize,
    pub issued: BTreeMap<usize, String>,
}

/// The public key of a request for a certificate.
struct PublicKey(Vec<u8>);

impl PublicKeyData for PublicKey {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

impl Server {
    /// A server that issues certificates for `validity`, in seconds since 1970.
    pub async fn start(validity: (i64, i64)) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("https://localhost:{}", listener.local_addr().unwrap().port());
        let state = State {
            base: base.clone(),
            issuer,
            validity,
            window: None,
            problem: None,
            refused_name: "",
            stalls: false,
            stalled: 0,
            refuses_replacement: false,
            orders: Vec::new(),
            accounts: Vec::new(),
            requests: 0,
            renewal_infos: 0,
            issued: BTreeMap::new(),
        };
        let server = Self { directory: format!("{base}/directory"), state: Arc::new(Mutex::new(state)) };
        tokio::spawn(server.clone().serve(listener));
        server
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    async fn serve(self, listener: TcpListener) {
        let leaf = CertificateDer::from_pem_slice(certificates().leaf.as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(certificates().key.as_bytes()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.unwrap().with_no_client_auth().with_single_cert(vec![leaf], key).unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        while let Ok((stream, _)) = listener.accept().await {
            let (server, acceptor) = (self.clone(), acceptor.clone());
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let service = service_fn(|request| server.respond(request));
                let _ =
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
            });
        }
    }

    async fn respond(&self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let payload = if parts.method == Method::POST { payload(&body) } else { Value::Null };
        let stalls = self.state().stalls && parts.uri.path().starts_with("/order/");
        if stalls {
            self.state().stalled += 1;
        }
        while stalls && self.state().stalls {
            sleep(Duration::from_millis(10)).await;
        }
        Ok(self.state().respond(parts.uri.path(), &payload))
    }
}

/// The payload of a signed request; null if it is empty.
fn payload(body: &[u8]) -> Value {
    let signed: Value = serde_json::from_slice(body).unwrap();
    assert!(!signed["signature"].as_str().unwrap().is_empty());
    let payload = BASE64_URL_SAFE_NO_PAD.decode(signed["payload"].as_str().unwrap()).unwrap();
    if payload.is_empty() { Value::Null } else { serde_json::from_slice(&payload).unwrap() }
}

impl State {
    fn respond(&mut self, path: &str, payload: &Value) -> Response<Full<Bytes>> {
        self.requests += 1;
        let (_, path) = path.split_once('/').unwrap();
        let (resource, id) = path.split_once('/').unwrap_or((path, ""));
        let base = self.base.clone();
        let order_id: usize = id.parse().unwrap_or(0);
        match resource {
            "directory" => self.directory(),
            "nonce" => answer(200, &Value::Null, ""),
            "account" => {
                self.accounts.push(payload.clone());
                answer(201, &json!({"status": "valid"}), &format!("{base}/account/1"))
            }
            "new-order" => self.new_order(payload),
            "order" => answer(200, &self.order(order_id), ""),
            "authorization" => {
                let (order, index) = id.split_once('-').unwrap();
                let names = &self.orders[order.parse::<usize>().unwrap()]["identifiers"];
                let challenge = |kind: &str| json!({"type": kind, "url": format!("{base}/challenge/1"), "token": "a-token", "status": "pending"});
                let all = json!([challenge("http-01"), challenge("tls-alpn-01")]);
                let identifier = &names[index.parse::<usize>().unwrap()];
                answer(200, &json!({"identifier": identifier, "status": "pending", "challenges": all}), "")
            }
            "challenge" => {
                let url = format!("{base}/challenge/1");
                answer(200, &json!({"type": "http-01", "url": url, "token": "a-token", "status": "processing"}), "")
            }
            "finalize" => {
                let request = BASE64_URL_SAFE_NO_PAD.decode(payload["csr"].as_str().unwrap()).unwrap();
                let certificate = self.issue(order_id, &request);
                self.issued.insert(order_id, certificate);
                answer(200, &self.order(order_id), "")
            }
            "certificate" => text(200, self.issued[&order_id].clone(), "application/pem-certificate-chain"),
            "renewal-info" => {
                self.renewal_infos += 1;
                let (start, end) = self.window.unwrap();
                let date = |seconds| {
                    let date = OffsetDateTime::from_unix_timestamp(seconds).unwrap();
                    date.format(&time::format_description::well_known::Rfc3339).unwrap()
                };
                let mut response =
                    answer(200, &json!({"suggestedWindow": {"start": date(start), "end": date(end)}}), "");
                response.headers_mut().insert("Retry-After", "7200".parse().unwrap());
                response
            }
            _ => problem("malformed", 404),
        }
    }

    fn directory(&self) -> Response<Full<Bytes>> {
        let url = |resource: &str| format!("{}/{resource}", self.base);
        let mut directory = json!({
            "newNonce": url("nonce"),
            "newAccount": url("account"),
            "newOrder": url("new-order"),
            "revokeCert": url("revoke"),
            "keyChange": url("key-change"),
            "meta": {"profiles": {"shortlived": "six days"}},
        });
        if self.window.is_some() {
            directory["renewalInfo"] = url("renewal-info").into();
        }
        answer(200, &directory, "")
    }

    fn new_order(&mut self, payload: &Value) -> Response<Full<Bytes>> {
        if let Some((kind, status, retry_after)) = self.problem {
            let mut response = problem(kind, status);
            if !retry_after.is_empty() {
                response.headers_mut().insert("Retry-After", retry_after.parse().unwrap());
            }
            return response;
        }
        if payload["identifiers"].as_array().unwrap().iter().any(|name| name["value"] == self.refused_name) {
            return problem("rejectedIdentifier", 400);
        }
        if self.refuses_replacement && payload.get("replaces").is_some() {
            return problem("alreadyReplaced", 409);
        }
        if payload.get("profile").is_some_and(|profile| profile != "shortlived") {
            return problem("invalidProfile", 400);
        }
        self.orders.push(payload.clone());
        let id = self.orders.len() - 1;
        answer(201, &self.order(id), &format!("{}/order/{id}", self.base))
    }

    fn order(&self, id: usize) -> Value {
        let base = &self.base;
        let order = &self.orders[id];
        let count = order["identifiers"].as_array().unwrap().len();
        let authorizations: Vec<_> = (0..count).map(|index| format!("{base}/authorization/{id}-{index}")).collect();
        let mut state = json!({
            "status": if self.issued.contains_key(&id) { "valid" } else { "ready" },
            "authorizations": authorizations,
            "finalize": format!("{base}/finalize/{id}"),
            "certificate": format!("{base}/certificate/{id}"),
        });
        for field in ["replaces", "profile"] {
            if let Some(value) = order.get(field) {
                state[field] = value.clone();
            }
        }
        state
    }

    /// A certificate for the names of an order and the key of `request`.
    fn issue(&self, id: usize, request: &[u8]) -> String {
        let (_, request) = X509CertificationRequest::from_der(request).unwrap();
        let key = &request.certification_request_info.subject_pki;
        let names = self.orders[id]["identifiers"].as_array().unwrap();
        let names: Vec<_> = names.iter().map(|name| name["value"].as_str().unwrap().to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.use_authority_key_identifier_extension = true;
        params.not_before = OffsetDateTime::from_unix_timestamp(self.validity.0).unwrap();
        params.not_after = OffsetDateTime::from_unix_timestamp(self.validity.1).unwrap();
        let key = PublicKey(key.subject_public_key.data.to_vec());
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        format!("{}{}", certificate.pem(), self.issuer.pem())
    }
}

fn answer(status: u16, body: &Value, location: &str) -> Response<Full<Bytes>> {
    let mut response = text(status, body.to_string(), "application/json");
    if !location.is_empty() {
        response.headers_mut().insert("Location", location.parse().unwrap());
    }
    response
}

fn problem(kind: &str, status: u16) -> Response<Full<Bytes>> {
    let body = json!({"type": format!("urn:ietf:params:acme:error:{kind}"), "detail": "refused by the test"});
    text(status, body.to_string(), "application/problem+json")
}

fn text(status: u16, body: String, kind: &str) -> Response<Full<Bytes>> {
    let response = Response::builder().status(StatusCode::from_u16(status).unwrap()).header("Content-Type", kind);
    response.header("Replay-Nonce", "a-nonce").body(Full::from(body)).unwrap()
}
