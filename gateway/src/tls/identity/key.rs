//! The private key, and why a key is unsupported.

use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::PrivateKeyDer;
use rustls::sign::SigningKey;
use x509_parser::asn1_rs::{Any, FromDer as _, Tag};

/// Minimum size of an RSA key that clients accept, in bits.
const MIN_RSA_BITS: usize = 2048;

/// Maximum size of an RSA key that the TLS library supports, in bits.
const MAX_RSA_BITS: usize = 8192;

/// The supported keys.
const SUPPORTED: &str = "use RSA with 2048 to 8192 bits, ECDSA on P-256, P-384 or P-521, or Ed25519, and have the \
                         certificate issued for the new key";

/// Creates the signing key.
///
/// # Errors
/// Why `key` cannot be used, without any of its bytes.
pub(super) fn signing_key(key: &PrivateKeyDer<'_>) -> Result<Arc<dyn SigningKey>, String> {
    aws_lc_rs::sign::any_supported_type(key).map_err(|_| match unsupported(key) {
        Some(cause) => format!("{cause}; {SUPPORTED}"),
        None => "the private key is damaged, or of a kind that is not supported".to_owned(),
    })
}

/// Returns what is unsupported about `key`; `None` if it may be damaged instead.
fn unsupported(key: &PrivateKeyDer<'_>) -> Option<String> {
    match key {
        PrivateKeyDer::Pkcs1(key) => unsupported_rsa(key.secret_pkcs1_der()),
        // ECPrivateKey (RFC 5915, section 3): version, key, [0] curve.
        PrivateKeyDer::Sec1(key) => {
            let [_, _, curve] = elements(key.secret_sec1_der())?;
            let (_, curve) = Any::from_der(curve.data).ok()?;
            unsupported_curve(&curve)
        }
        // PrivateKeyInfo (RFC 5958, section 2): version, algorithm, key.
        PrivateKeyDer::Pkcs8(key) => {
            let [_, algorithm, key] = elements(key.secret_pkcs8_der())?;
            let (parameters, kind) = Any::from_der(algorithm.data).ok()?;
            match kind.data {
                RSA => unsupported_rsa(key.data),
                EC => unsupported_curve(&Any::from_der(parameters).ok()?.1),
                RSA_PSS => Some("a key that is restricted to RSASSA-PSS is not supported".to_owned()),
                ED448 => Some("Ed448 is not supported".to_owned()),
                DSA => Some("DSA is not supported".to_owned()),
                X25519 | X448 => Some("the key is one of key agreement and cannot sign".to_owned()),
                _ => None,
            }
        }
        _ => None,
    }
}

const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
const RSA_PSS: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0a];
const EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const DSA: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x38, 0x04, 0x01];
const X25519: &[u8] = &[0x2b, 0x65, 0x6e];
const X448: &[u8] = &[0x2b, 0x65, 0x6f];
const ED448: &[u8] = &[0x2b, 0x65, 0x71];

/// Returns what is wrong with the size of an RSAPrivateKey (RFC 8017, appendix A.1.2), if anything.
fn unsupported_rsa(key: &[u8]) -> Option<String> {
    let [_, modulus, _] = elements(key)?;
    let digits = modulus.data.get(modulus.data.iter().position(|byte| *byte != 0)?..)?;
    let bits = digits.len() * 8 - digits.first()?.leading_zeros() as usize;
    match bits {
        ..MIN_RSA_BITS => Some(format!("an RSA key of {bits} bits is too short")),
        MIN_RSA_BITS..=MAX_RSA_BITS => None,
        _ => Some(format!("an RSA key of {bits} bits is too long")),
    }
}

/// Returns why a named curve (RFC 5480, section 2.1.1) is unsupported.
fn unsupported_curve(curve: &Any<'_>) -> Option<String> {
    const P_256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
    const P_384: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x22];
    const P_521: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x23];
    const SECP256K1: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x0a];
    const P_224: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x21];
    const BRAINPOOL: &[u8] = &[0x2b, 0x24, 0x03, 0x03, 0x02, 0x08, 0x01, 0x01];
    if curve.tag() != Tag::Oid {
        return Some("an elliptic curve by explicit parameters is not supported".to_owned());
    }
    let name = match curve.data {
        P_256 | P_384 | P_521 => return None,
        SECP256K1 => "secp256k1",
        P_224 => "P-224",
        oid if oid.starts_with(BRAINPOOL) => "brainpool",
        _ => "of the key",
    };
    Some(format!("the elliptic curve {name} is not supported"))
}

/// Returns the first three elements of a SEQUENCE.
fn elements(der: &[u8]) -> Option<[Any<'_>; 3]> {
    let (_, sequence) = Any::from_der(der).ok()?;
    let (rest, first) = Any::from_der(sequence.data).ok()?;
    let (rest, second) = Any::from_der(rest).ok()?;
    let (_, third) = Any::from_der(rest).ok()?;
    Some([first, second, third])
}
