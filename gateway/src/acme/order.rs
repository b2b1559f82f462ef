//! An order, from its identifiers to the certificate (RFC 8555, section 7.4).

use std::time::Duration;

use instant_acme::{
    Account, AuthorizationStatus, CertificateIdentifier, ChallengeType, Error, Identifier, NewOrder, Order,
    OrderStatus, RetryPolicy,
};
use rcgen::{CertificateParams, DistinguishedName, KeyPair};

use super::error::{AcmeError, shown_problem, type_of};
use super::settings::{Challenge, Settings};
use super::storage::{Lock, Published, Storage};
use crate::tls::{Identity, NotAnIdentity};

/// How the state of an order is polled. A server that validates slowly sends a `Retry-After`.
const POLLS: RetryPolicy =
    RetryPolicy::new().initial_delay(Duration::from_millis(250)).backoff(1.5).timeout(Duration::from_secs(60));

/// What is ordered.
pub(super) struct Wanted<'a> {
    pub(super) names: &'a [String],
    /// The certificate that the new one replaces, for a server with renewal information (RFC 9773, section 5).
    pub(super) replaces: Option<CertificateIdentifier<'static>>,
    /// The challenges to use, in the order of preference.
    pub(super) challenges: Vec<Challenge>,
}

/// A new certificate.
pub(super) struct Obtained {
    /// The chain, and the private key.
    pub(super) pem: String,
    pub(super) identity: Identity,
}

/// Orders a certificate with a new key at `now`, in seconds since 1970.
pub(super) async fn obtain(
    account: &Account,
    (settings, storage, lock): (&Settings, &Storage, &Lock),
    wanted: Wanted<'_>,
    now: i64,
) -> Result<Obtained, OrderError> {
    storage.clear_challenges(lock);
    let mut order = create(account, settings, &wanted).await?;
    let published = respond(&mut order, (storage, lock), &wanted).await?;
    let ready = order.poll_ready(&POLLS).await;
    drop(published);
    match ready {
        Ok(OrderStatus::Ready) => {}
        Err(Error::Timeout(_)) => return Err(AcmeError::Timeout.into()),
        ready => {
            let failed = failed_validation(&mut order).await;
            let error = ready.err().map_or_else(|| AcmeError::Refused("the order is invalid".to_owned()), Into::into);
            return Err(failed.unwrap_or(error).into());
        }
    }
    let key = KeyPair::generate().map_err(not_created)?;
    order.finalize_csr(&signing_request(wanted.names, &key)?).await?;
    let chain = order.poll_certificate(&POLLS).await?;
    Ok(checked(wanted.names, format!("{}\n{}", chain.trim_end(), key.serialize_pem()), now)?)
}

/// Why an order failed.
pub(super) enum OrderError {
    /// The server does not know the account.
    UnknownAccount,
    Other(AcmeError),
}

impl From<AcmeError> for OrderError {
    fn from(error: AcmeError) -> Self {
        Self::Other(error)
    }
}

impl From<Error> for OrderError {
    fn from(error: Error) -> Self {
        if super::account::is_unknown_account(&error) { Self::UnknownAccount } else { Self::Other(error.into()) }
    }
}

async fn create(account: &Account, settings: &Settings, wanted: &Wanted<'_>) -> Result<Order, Error> {
    let identifiers: Vec<_> = wanted.names.iter().cloned().map(Identifier::Dns).collect();
    let new_order = || {
        let order = NewOrder::new(&identifiers);
        if let Some(profile) = &settings.profile { order.profile(profile) } else { order }
    };
    if let Some(replaces) = &wanted.replaces {
        match account.new_order(&new_order().replaces(replaces.clone())).await {
            // It was replaced already, for example by a gateway that could not store the certificate, or the server
            // does not know it.
            Err(Error::Api(problem)) if !matches!(type_of(&problem), "rateLimited" | "accountDoesNotExist") => {}
            // The server did not confirm the replacement.
            Err(Error::Other(_) | Error::Unsupported(_)) => {}
            result => return result,
        }
    }
    account.new_order(&new_order()).await
}

/// Publishes a challenge for each name that is not yet validated, and reports that they are ready.
async fn respond(
    order: &mut Order,
    (storage, lock): (&Storage, &Lock),
    wanted: &Wanted<'_>,
) -> Result<Vec<Published>, OrderError> {
    let mut published = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        if authorization.status == AuthorizationStatus::Valid {
            continue;
        }
        let name = authorization.identifier().to_string();
        let offered = |kind: &&Challenge| authorization.challenges.iter().any(|one| one.r#type == type_in(**kind));
        let Some(kind) = wanted.challenges.iter().find(offered).copied() else {
            return Err(AcmeError::NoChallenge(super::error::bounded(&name)).into());
        };
        let Some(mut challenge) = authorization.challenge(type_in(kind)) else { continue };
        let key_authorization = challenge.key_authorization();
        let place = (name.as_str(), challenge.token.as_str());
        published.push(storage.publish(kind, place, key_authorization.as_str(), lock)?);
        challenge.set_ready().await?;
    }
    Ok(published)
}

/// The first validation that failed.
async fn failed_validation(order: &mut Order) -> Option<AcmeError> {
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        // The known state is that of before the validation.
        authorization.refresh().await.ok()?;
        let name = authorization.identifier().to_string();
        for challenge in &authorization.challenges {
            if let Some(problem) = &challenge.error {
                return Some(AcmeError::Validation {
                    name: super::error::bounded(&name),
                    challenge: name_of(&challenge.r#type),
                    detail: shown_problem(problem),
                });
            }
        }
    }
    None
}

fn type_in(challenge: Challenge) -> ChallengeType {
    match challenge {
        Challenge::Http01 => ChallengeType::Http01,
        Challenge::TlsAlpn01 => ChallengeType::TlsAlpn01,
    }
}

fn name_of(challenge: &ChallengeType) -> &'static str {
    match challenge {
        ChallengeType::Http01 => Challenge::Http01.name(),
        ChallengeType::TlsAlpn01 => Challenge::TlsAlpn01.name(),
        _ => "another challenge",
    }
}

/// A certificate signing request in DER (RFC 2986) without a subject: the names are in its subjectAltName.
fn signing_request(names: &[String], key: &KeyPair) -> Result<Vec<u8>, AcmeError> {
    let mut params = CertificateParams::new(names).map_err(not_created)?;
    params.distinguished_name = DistinguishedName::new();
    Ok(params.serialize_request(key).map_err(not_created)?.der().to_vec())
}

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn not_created(error: rcgen::Error) -> AcmeError {
    AcmeError::Certificate(format!("no request for it can be created: {error}"))
}

/// Checks that a certificate can be served: a broken one must not replace a good one.
fn checked(names: &[String], pem: String, now: i64) -> Result<Obtained, AcmeError> {
    let not_usable = |reason: NotAnIdentity| AcmeError::Certificate(reason.to_string());
    let identity = Identity::parse(pem.as_bytes()).map_err(not_usable)?;
    if let Some(missing) = names.iter().find(|name| !identity.covers(name)) {
        return Err(AcmeError::Certificate(format!("it does not cover {missing}")));
    }
    if identity.not_after <= now {
        return Err(AcmeError::Certificate("it has expired".to_owned()));
    }
    Ok(Obtained { pem, identity })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_certificate_for_all_names_and_for_the_key_is_accepted() {
        let names = ["a.example".to_owned(), "b.example".to_owned()];
        let made = rcgen::generate_simple_self_signed(names.to_vec()).unwrap();
        let pem = format!("{}{}", made.cert.pem(), made.signing_key.serialize_pem());
        let reason = |names: &[String], pem: &str, now| {
            checked(names, pem.to_owned(), now).map(|_| ()).map_err(|error| error.to_string())
        };
        assert_eq!(reason(&names, &pem, 1_800_000_000), Ok(()));
        let other = reason(&["c.example".to_owned()], &pem, 1_800_000_000).unwrap_err();
        assert!(other.ends_with("it does not cover c.example"), "{other}");
        assert!(reason(&names, &pem, i64::MAX).unwrap_err().ends_with("it has expired"));
        let foreign = format!("{}{}", made.cert.pem(), KeyPair::generate().unwrap().serialize_pem());
        assert!(reason(&names, &foreign, 1_800_000_000).unwrap_err().contains("is not the key of the certificate"));
        assert!(reason(&names, "", 0).unwrap_err().contains("the file is empty"));
    }
}
