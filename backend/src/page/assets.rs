//! The scripts and styles of the page, part of the program. Their path has a hash of all of them, so that browsers cache
//! them until one changes.

use std::sync::LazyLock;

use aws_lc_rs::digest::{Context, SHA256};

use crate::hex;

/// Bytes of the SHA-256 digest in the path.
const HASH_BYTES: usize = 8;

/// A file that the page loads.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asset {
    name: &'static str,
    /// Its media type.
    pub(crate) media_type: &'static str,
    /// Its content.
    pub(crate) content: &'static str,
}

const SCRIPT: &str = "text/javascript; charset=utf-8";

const fn script(name: &'static str, content: &'static str) -> Asset {
    Asset { name, media_type: SCRIPT, content }
}

const ASSETS: [Asset; 14] = [
    Asset { name: "page.css", media_type: "text/css; charset=utf-8", content: include_str!("assets/page.css") },
    Asset { name: "noscript.css", media_type: "text/css; charset=utf-8", content: include_str!("assets/noscript.css") },
    Asset { name: "icon.svg", media_type: "image/svg+xml", content: include_str!("assets/icon.svg") },
    script("main.js", include_str!("assets/main.js")),
    script("api.js", include_str!("assets/api.js")),
    script("deletions.js", include_str!("assets/deletions.js")),
    script("dialogs.js", include_str!("assets/dialogs.js")),
    script("files.js", include_str!("assets/files.js")),
    script("records.js", include_str!("assets/records.js")),
    script("texts.js", include_str!("assets/texts.js")),
    script("toasts.js", include_str!("assets/toasts.js")),
    script("transfer.js", include_str!("assets/transfer.js")),
    script("unsaved.js", include_str!("assets/unsaved.js")),
    script("users.js", include_str!("assets/users.js")),
];

/// The hash of all assets, in hexadecimal.
static HASH: LazyLock<String> = LazyLock::new(|| {
    let mut context = Context::new(&SHA256);
    for asset in &ASSETS {
        context.update(asset.name.as_bytes());
        context.update(&[0]);
        context.update(asset.content.as_bytes());
        context.update(&[0]);
    }
    hex::encode(context.finish().as_ref().get(..HASH_BYTES).unwrap_or_default())
});

/// The path of an asset. Scripts import each other by relative paths, which have the same hash.
pub(super) fn path(name: &str) -> String {
    format!("/page/assets/{}/{name}", *HASH)
}

/// The asset at `hash/name`; `None` for another hash, because a cache may store the response for a year.
pub(crate) fn find(path: &str) -> Option<Asset> {
    let (hash, name) = path.split_once('/')?;
    ASSETS.into_iter().find(|asset| asset.name == name).filter(|_| hash == *HASH)
}

/// The contents of all scripts.
#[cfg(test)]
pub(super) fn scripts() -> impl Iterator<Item = &'static str> {
    ASSETS.into_iter().filter(|asset| asset.media_type == SCRIPT).map(|asset| asset.content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_asset_has_one_path() {
        for asset in ASSETS {
            let path = path(asset.name);
            let rest = path.strip_prefix("/page/assets/").unwrap();
            assert_eq!(find(rest).unwrap().content, asset.content);
            assert!(find(asset.name).is_none() && find(&format!("0{rest}")).is_none());
        }
        assert!(find(&format!("{}/none.js", *HASH)).is_none());
    }

    #[test]
    fn each_import_of_a_script_exists() {
        for asset in ASSETS.iter().filter(|asset| asset.media_type == SCRIPT) {
            for line in asset.content.lines().filter(|line| line.starts_with("import ")) {
                let name = line.split('"').nth(1).and_then(|path| path.strip_prefix("./")).unwrap();
                assert!(ASSETS.iter().any(|other| other.name == name), "{}: {line}", asset.name);
            }
        }
    }

    #[test]
    fn scripts_write_text_and_no_markup() {
        for script in scripts() {
            for sink in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function("] {
                assert!(!script.contains(sink), "{sink}");
            }
        }
    }
}
