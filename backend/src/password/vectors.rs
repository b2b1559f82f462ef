//! Test vectors made by other libraries: Werkzeug 3.1.9, Django 5.2.19, passlib 1.7.4 with argon2-cffi 25.1.0 and
//! bcrypt 5.0.0.

use super::check::{Checker, Outcome};
use super::limits::Unverifiable;
use super::{Password, Settings};
use crate::model::PasswordForm;

const PASSWORD: &str = "pässword01";

/// Hashes of [`PASSWORD`] that are upgraded on login.
const HASHES: [&str; 25] = [
    // Werkzeug, the first and the third with its defaults.
    "scrypt:32768:8:1$FuIaOEfpP5iP1j7a$54f10f1d2556e01c086042db912fd7b48643994b2e296cdf2f851b6b2137bddb64823edf195efa8706b6489d3d16c4ad707178757e1f5a01c959f76fdf063dd6",
    "scrypt:1024:4:2$ll1V0PIYFOophe9d$e265e9a029d2bfb56bb07cf92bb0aca289324af8272a9f8b862c3a198b5b6f000c5235ebc6f0246e832cd3fc8cadb529229b7394cddab684200948fd0dadaec1",
    "pbkdf2:sha256:1000000$F7wJFzRZvxxDOb2P$b9159a96100005e93e534ae2ca453bfa2d0699c9f5b5b35dfaaa3d640f3995a6",
    "pbkdf2:sha1:1000$PWWysIFxy5PYEPDg$5938981c264c9d39cba568b9a56720e7dd8742d9",
    "pbkdf2:sha512:1000$KC8tcLbHR3oMI8kk$df5859aae3e30b89d83f5ea433583a2c1f8f5f0a763a1523a638bc3302bea5bda48d3235d76b034a18c6606ee8c54c7e6e08ff673bd3651ea7b24fb457a20a25",
    // Django, the first and the fourth with its defaults.
    "pbkdf2_sha256$1000000$saltsaltsalt$cJWcFWT9XJkvLFciSmviUo8YwPnFJajeg3jPjnO1wWA=",
    "pbkdf2_sha256$1000$saltsaltsalt$xyKCDZ/yjGew0X1swSUfIvXnBKXulCxIyiVt/1s+LLU=",
    "pbkdf2_sha1$1000$saltsaltsalt$zw2KCXKrMo2acuMjaCZ7Hrmt25I=",
    "scrypt$16384$saltsaltsalt$8$5$9zFTK9O/P6RsLQJS8DJI5YYdnnRHOxyklFB6MdFqCjSPLIcEmvPxljFOvj+Tjp4cLeCdKjxTPz0I28r/4ncHMw==",
    "scrypt$1024$saltsaltsalt$8$5$ObQxpP4ko3S0mc7c+64wgUATtqQhQtgiM4CGbN4qZAVzsIYBD595wHItbVB1AjU+KyPjLU+nUlpGZJy5wqhMug==",
    "argon2$argon2id$v=19$m=64,t=1,p=2$c2FsdHNhbHRzYWx0$9JG9U8FrAgS6Ap9yal69FXlfM/5HUxKcJn2ar3YflwY",
    "bcrypt_sha256$$2b$04$8HjhpX1jAT2O01.k7Z7NQ.T2cB42kGYXQfLDBFdIjDoJy4JsGDcsi",
    "bcrypt$$2b$04$s25Z.MrPhjmHv0NkhJvHM./NHX48X8zxqQ5ZW.bC9H/cKIuvwKM3m",
    // passlib, several with its defaults.
    "$pbkdf2$1000$obR2DsHYe48xZowxRigFwA$uddJrnLmmZFoVOlfk0v9nPYGttA",
    "$pbkdf2-sha256$1000$CoFwDgGgNOYco7T2nnNOyQ$8/fIH0CyRbad/42Lc9UdO28NQROdSJbBALPj3Zod344",
    "$pbkdf2-sha512$1000$yHnvfS9FKAVgDGEsRSglxA$CFCOKuKLl6iLslh/a2Q4fjnOjWEkS299focX1SJiP6Q01dfYCauHElQjPB5/7dDvKM1eKUTZfwCxyF90ZaFpDQ",
    "$scrypt$ln=10,r=8,p=1$T2kNQai1do4xZmwNAaC0dg$hRkSh/7CrN0W7R5jqymMdLbcQgUJ4Nr633zbOG5tgHc",
    "$argon2i$v=19$m=64,t=2,p=1$OMf4X+sdo7RWinFuTQnhXA$HRXwg5/fzhZFBjqQVzZ8m36RAfTndgP661h3wy9m5pw",
    "$argon2d$v=19$m=64,t=2,p=1$XGstBeC819rbWyultPaekw$J6wn3avg9Txbatb725kOwDIx6k7kPUCzwQ5HycIv6wA",
    "$scrypt$ln=16,r=8,p=1$OWfsvbf2fs85pxRCaI1RSg$1n1H/rc6uVV5cqo6Y9WRqfKLez0pd61erbhf4Q8Ddfg",
    "$pbkdf2-sha256$29000$GmPMmVMqJSQEgLB2zjnn3A$Wtpw32JEmv.RCvVcO8o24oRj.rJ1sI9dPC8z/YDbsL8",
    "$bcrypt-sha256$v=2,t=2b,r=4$5CzJQ/2KdJamH7PUgD4uGe$0/x2pPlOMQiUx68/G/qiyeL3Bb9eQ/G",
    "$bcrypt-sha256$v=2,t=2b,r=12$pe40vF0kY8g5fJKSadVT/O$ltZgyx2KNzTPnuWjVGIx63pZ3rsVWau",
    "$bcrypt-sha256$2b,4$r3uyqZEZPgkfuYvDbUgwQO$UM8Fb3bMTIbaJ.W5KzVFZqtzgFM89q2",
    "pbkdf2_sha256$1000$c3VziPeEdcxa$fmwxvoCjVHprQNI6ZqizsR70Zg+79UJSqGk/EZcXnAg=",
];

/// Django's argon2 with its defaults, which are stronger than ours.
const DJANGO_ARGON2: &str =
    "argon2$argon2id$v=19$m=102400,t=2,p=8$c2FsdHNhbHRzYWx0$W3Mn61E1cwMmNrAj92nIih7oifMTZKzByUzCtz3+3rw";

/// Stored values that no password matches.
const UNSUPPORTED: [&str; 28] = [
    "$1$Wk4DtxQx$Y2RK0/U7H6SJAUExgxZII/",
    "$5$rounds=1000$s8qn83M69SFY5vvA$xXMDrLG4DwPdeDFkp5LmtQVapr6rjYnd/bXUh9qNRV0",
    "$6$rounds=1000$6xEPHQnlRVz6nomP$JEMEEvwZ0KxLAA3buEl4GLhuDQ5sl7dcFAxmsoHUlF4sWqN7rm0U7zX2n7W/Vb3smgHouaPtrxsQcNE6S.QEv.",
    "$apr1$s3QJqLsM$7UrH4nndud5LQbZ926n69.",
    "$md5,rounds=34000$o.ZzZfg.$$05vEVadM76vk5uyRpGGua0",
    "$sha1$1000$IqCRTk0D$k5AI0rIapANRO9fUVwkE3f9rEZIZ",
    "$P$HFY2aGMdaDQ.Ep/rp8tpxDOeiRewWb1",
    "{SSHA}4BPdiYIlg7xgvFqGfg5Z7223qoCAcI4R",
    "{SHA}0RGzjA5zvIZ8S61AI2BqDg32TC8=",
    "{MD5}r4igrmQVibkI+osx8Pz24Q==",
    "{SSHA256}SFuCTBiFIuAR5tXmS0fTW7M5GK+mUH7GywxsBfq30ltyTknpfa91Tg==",
    "{SSHA512}4QGFqdpNxCWqZARaU+IWyn9xtvwS1ghRzmoAeiMk517fQk2FYxxPjdRUK1EsPjhMOI793GiUvRzvjAlTSqb7qx3j3Pvfu1dK",
    "{CRYPT}$6$rounds=1000$e3TCc3SjwqwIGktr$NnFGehckDTwIs.0jZKUdGwDTsPhc6TcdqMBFC3AsUbWGpPnHeMaUV/4nKvS.c3X34D/Ajd5lmZKwU9wjeV0dR1",
    "{PBKDF2-SHA256}1000$2Nt7D0EIQai11vpfq7WWcg$sIJsFoK2/ZDt4WwjvvZ0hgkJ87b2njajVuSFZrmcTs0",
    "{PKCS5S2}vJeSEqKU0pozRmitFYKQ0tY1MH74bZElobCoU/zbuOSdjEwRu2By38PMXZ97V47g",
    "{FSHP1|16|480000}dw7h3Lt3bm1NqbX23ru3NkLI+6ayMa0uF3EkZ1s+LTdEMVGhOeoRpW1j8zOPWG3q",
    "grub.pbkdf2.sha512.1000.63CC19833026C418C3B8F79E93F2DEDBDB1B23A4F47E2F450841A8B576CED9BB774EE93D8770CE1923A4B4F6FE1F23640CC19833A6F4FE3F07604CC9198330C6.7586F0F3C44AC6DD65A2289D30A33FE3111D15FF8AD3049D700E3E5BB334F58A8E67E0689BBF4F5E88417E5CA2D46F3D786E52D2D53DA88B48654960E41FCEFA",
    "sha1$bYqwwr2B6BeL$c55317e3e7d82ded1fabdc6075b3bff2a42d9970",
    "md5$NVfKPtFZ2SfW$e4a901c9435c86cb009c894f4e606adc",
    "crypt$cX$cXP73YiReDjxg",
    "$scram$1000$P6dUak1JyXlPybkX$sha-1=WJ8U3ZPR8ZcCFA9a89WyN1OrGRQ,sha-256=NhvAh5dklf75DJbH2xjwstJsu9ynJdKdYMhRUvJM6Hc",
    "$p5k2$3e8$oLT2fo8xZuy9l5JyTmlNyQ==$S_ljuTWMIFh20CxVAZv3b3k5oxw=",
    "$3$$b2641aea8eb4c00ede89cd2b7c78f6fb",
    "!ICnx5EAV8SmBF8CtJwYrd0LBQG3fmnnVCVGoRp7U",
    "$y$j9T$F5Jx5fExrKuPp53xLKQ..1$X3DX6M94c7o.9agCG9G317fhZg9SqC.5i5rd.RhAtQ7",
    "$2x$04$s25Z.MrPhjmHv0NkhJvHM./NHX48X8zxqQ5ZW.bC9H/cKIuvwKM3m",
    "!",
    "*",
];

fn checker() -> Checker {
    let settings = Settings { memory_kib: 64, iterations: 2, parallelism: 1, concurrency: 1, queue: 0, upgrade: true };
    Checker::new(&settings).unwrap()
}

fn check(stored: &str, text: &str) -> Outcome {
    checker().verify(&Password::new(text.to_owned()).unwrap(), Some(stored))
}

#[test]
fn hashes_of_other_libraries_match_their_password_and_become_argon2id() {
    for stored in HASHES {
        let Outcome::Matches { upgrade: Some(hash) } = check(stored, PASSWORD) else { panic!("{stored}") };
        assert!(hash.starts_with("$argon2id$v=19$m=64,t=2,p=1$"), "{hash}");
        assert_eq!(check(&hash, PASSWORD), Outcome::Matches { upgrade: None });
        assert_ne!(PasswordForm::of(stored), PasswordForm::Plain, "{stored}");
    }
}

#[test]
fn neither_other_passwords_nor_the_stored_text_match() {
    for stored in HASHES {
        for text in ["pässword0", "pässword012", "", stored] {
            assert_eq!(check(stored, text), Outcome::Differs, "{stored} and {text}");
        }
    }
}

#[test]
fn a_stronger_argon2id_of_django_is_not_weakened() {
    let Outcome::Matches { upgrade: Some(hash) } = check(DJANGO_ARGON2, PASSWORD) else { panic!() };
    assert_eq!(hash, DJANGO_ARGON2.strip_prefix("argon2").unwrap());
    assert_eq!(check(&hash, PASSWORD), Outcome::Matches { upgrade: None });
    assert_eq!(check(DJANGO_ARGON2, "pässword02"), Outcome::Differs);
}

#[test]
fn a_hash_within_other_characters_is_never_compared_as_plain_text() {
    let unsupported = UNSUPPORTED.iter().filter(|stored| stored.len() >= 40 && stored.starts_with('$'));
    for stored in HASHES.iter().chain(unsupported) {
        for text in [
            format!(" {stored}"),
            format!("\u{feff}{stored}"),
            format!("\t\n{stored}"),
            format!("\"{stored}\""),
            format!("'{stored}'"),
            // Python's str() of bytes.
            format!("b'{stored}'"),
            format!("b\"{stored}\""),
        ] {
            assert_eq!(check(&text, &text), Outcome::Unverifiable(Unverifiable::Unsupported), "{text}");
            assert_eq!(check(&text, PASSWORD), Outcome::Unverifiable(Unverifiable::Unsupported), "{text}");
        }
        let capitals = stored.to_uppercase();
        if HASHES.contains(stored) {
            assert_ne!(PasswordForm::of(&capitals), PasswordForm::Plain, "{capitals}");
        }
    }
}

#[test]
fn unsupported_hashes_are_never_compared_as_plain_text() {
    for stored in UNSUPPORTED {
        for text in [stored, "password01", PASSWORD] {
            assert_eq!(check(stored, text), Outcome::Unverifiable(Unverifiable::Unsupported), "{stored}");
        }
    }
}

#[test]
fn damaged_and_costly_hashes_are_refused_before_they_are_computed() {
    let key = "0".repeat(64);
    for (stored, why) in [
        ("scrypt:".to_owned(), Unverifiable::Damaged),
        (format!("scrypt:32768:8:1$salt${}", "0".repeat(8)), Unverifiable::Damaged),
        (format!("scrypt:32768:8:1$salt${}g", "0".repeat(63)), Unverifiable::Damaged),
        (format!("scrypt:32767:8:1$salt${key}"), Unverifiable::Damaged),
        (format!("scrypt:32768:0:1$salt${key}"), Unverifiable::Damaged),
        (format!("scrypt:32768:8$salt${key}"), Unverifiable::Damaged),
        (format!("scrypt:+32768:8:1$salt${key}"), Unverifiable::Damaged),
        (format!("scrypt:1073741824:8:1$salt${key}"), Unverifiable::Costly),
        (format!("scrypt:1024:8:100000$salt${key}"), Unverifiable::Costly),
        (format!("scrypt:2:4294967295:1$salt${key}"), Unverifiable::Costly),
        (
            "$scrypt$ln=64,r=8,p=1$T2kNQai1do4xZmwNAaC0dg$hRkSh/7CrN0W7R5jqymMdLbcQgUJ4Nr633zbOG5tgHc".to_owned(),
            Unverifiable::Damaged,
        ),
        (
            "$scrypt$ln=40,r=8,p=1$T2kNQai1do4xZmwNAaC0dg$hRkSh/7CrN0W7R5jqymMdLbcQgUJ4Nr633zbOG5tgHc".to_owned(),
            Unverifiable::Costly,
        ),
        // A salt of less than 8 bytes, one with stray bits, no salt; a number of lanes that overflows times eight.
        (
            "$argon2id$v=19$m=64,t=2,p=1$c2FsdA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA".to_owned(),
            Unverifiable::Damaged,
        ),
        (
            "$argon2id$v=19$m=64,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAB$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA".to_owned(),
            Unverifiable::Damaged,
        ),
        ("$argon2id$v=19$m=64,t=2,p=1$$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA".to_owned(), Unverifiable::Damaged),
        (
            "$argon2id$v=19$m=64,t=2,p=536870912$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
                .to_owned(),
            Unverifiable::Costly,
        ),
        (
            "$bcrypt-sha256$v=2,t=2b,r=31$5CzJQ/2KdJamH7PUgD4uGe$0/x2pPlOMQiUx68/G/qiyeL3Bb9eQ/G".to_owned(),
            Unverifiable::Costly,
        ),
        (
            "$bcrypt-sha256$v=3,t=2b,r=4$5CzJQ/2KdJamH7PUgD4uGe$0/x2pPlOMQiUx68/G/qiyeL3Bb9eQ/G".to_owned(),
            Unverifiable::Damaged,
        ),
        (
            "$bcrypt-sha256$v=2,t=2b,r=+4$5CzJQ/2KdJamH7PUgD4uGe$0/x2pPlOMQiUx68/G/qiyeL3Bb9eQ/G".to_owned(),
            Unverifiable::Damaged,
        ),
        (
            "$bcrypt-sha256$v=2,t=2b,r=4$5CzJQ/2KdJamH7PUgD4uGe0/x2pPlOMQiUx68/G/qiyeL3Bb9eQ/G".to_owned(),
            Unverifiable::Damaged,
        ),
        ("$bcrypt-sha256$v=2,t=2b,r=4$5CzJQ/2KdJamH7PUgD4uGe$".to_owned(), Unverifiable::Damaged),
        ("$bcrypt-sha256$".to_owned(), Unverifiable::Damaged),
        (format!("pbkdf2:sha256:4000000000$salt${key}"), Unverifiable::Costly),
        (format!("pbkdf2:sha256:9000000$salt${key}00"), Unverifiable::Costly),
        (format!("pbkdf2:sha256:0$salt${key}"), Unverifiable::Damaged),
        (format!("pbkdf2:sha256$salt${key}"), Unverifiable::Damaged),
        (format!("pbkdf2:md5:1000$salt${key}"), Unverifiable::Damaged),
        ("pbkdf2_sha256$1000$salt$".to_owned(), Unverifiable::Damaged),
        ("$pbkdf2-sha384$1000$c2FsdA$c2FsdA".to_owned(), Unverifiable::Damaged),
        ("argon2$".to_owned(), Unverifiable::Damaged),
        (
            "argon2$argon2id$v=19$m=4194304,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
                .to_owned(),
            Unverifiable::Costly,
        ),
        ("bcrypt$$2b$31$s25Z.MrPhjmHv0NkhJvHM./NHX48X8zxqQ5ZW.bC9H/cKIuvwKM3m".to_owned(), Unverifiable::Costly),
    ] {
        assert_eq!(check(&stored, &stored), Outcome::Unverifiable(why), "{stored}");
        assert_eq!(check(&stored, "password01"), Outcome::Unverifiable(why), "{stored}");
    }
}

#[test]
fn a_password_that_ends_with_nul_is_not_rehashed() {
    let stored = "pbkdf2:sha1:1000$PWWysIFxy5PYEPDg$5938981c264c9d39cba568b9a56720e7dd8742d9";
    assert_eq!(check(stored, "pässword01\0"), Outcome::Matches { upgrade: None });
}
