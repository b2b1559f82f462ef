//! Determines the commit for `--version`. Without git, or outside a checkout of this project, it is unknown.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let commit = commit().unwrap_or_else(|| "unknown".to_owned());
    println!("cargo::rustc-env=HOLODULE_COMMIT={commit}");
    println!("cargo::rustc-env=HOLODULE_PROFILE={}", profile().unwrap_or_else(|| "unknown".to_owned()));
}

/// The abbreviated commit and its date.
fn commit() -> Option<String> {
    // Sources unpacked below the checkout of another project must not report that project's commit.
    git(&["ls-files", "--error-unmatch", "build.rs"])?;
    // The log of HEAD changes with each commit and checkout; if it is disabled, HEAD itself must suffice.
    for name in ["HEAD", "logs/HEAD"] {
        let path = git(&["rev-parse", "--git-path", name])?;
        if Path::new(&path).exists() {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    git(&["log", "-1", "--format=%h %cs"])
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}

/// The name of the profile: cargo's `PROFILE` is `release` for every profile that inherits from it. It is the folder
/// above `build` in `target/<profile>/build/<package>/out`.
fn profile() -> Option<String> {
    let out = std::env::var("OUT_DIR").ok()?;
    let profile = Path::new(&out).ancestors().find(|path| path.ends_with("build"))?.parent()?.file_name()?;
    Some(profile.to_str()?.to_owned())
}
