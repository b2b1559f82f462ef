//! The version of the build.

/// The version, the commit with its date, and the build profile, as in `0.1.0 (a1b2c3d 2026-11-26, release)`. Both
/// programs have the version of the workspace. Uncommitted changes are not visible in it.
pub const VERSION: &str =
    concat!(env!("CARGO_PKG_VERSION"), " (", env!("HOLODULE_COMMIT"), ", ", env!("HOLODULE_PROFILE"), ")");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_names_version_commit_date_and_profile() {
        let rest = VERSION.strip_prefix(concat!(env!("CARGO_PKG_VERSION"), " (")).unwrap();
        let (commit, profile) = rest.strip_suffix(')').unwrap().split_once(", ").unwrap();
        assert!(!profile.is_empty() && profile != "unknown", "{VERSION}");
        let known = commit.split_once(' ').is_some_and(|(hash, date)| {
            hash.len() >= 7 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()) && date.len() == 10
        });
        assert!(known || commit == "unknown", "{VERSION}");
    }
}
