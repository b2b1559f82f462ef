//! Where a change of a file can happen: in the folder of the file, and in the folder of each link and folder on its path.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs;
use std::path::{Component, Path, PathBuf};

/// The maximum number of links followed, as in the kernel.
const LINK_LIMIT: usize = 40;

/// A name in a folder that decides which file a path denotes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The folder, without links.
    pub(super) folder: PathBuf,
    pub(super) name: OsString,
    /// Whether it is a link or the last name, which are replaced in practice. Others are folders.
    pub(super) is_replaced: bool,
}

/// The places of `path`, an absolute path, whether or not the file exists.
pub(super) fn places(path: &Path) -> Vec<Place> {
    let mut places: Vec<Place> = Vec::new();
    let mut folder = PathBuf::from("/");
    let mut names = names_of(path);
    let mut links = 0;
    while let Some(name) = names.pop_front() {
        if name == ".." {
            folder.pop();
            continue;
        }
        let at = folder.join(&name);
        let target = fs::read_link(&at).ok().filter(|_| links < LINK_LIMIT);
        places.push(Place { folder: folder.clone(), name, is_replaced: target.is_some() || names.is_empty() });
        match target {
            Some(target) => {
                links += 1;
                if target.is_absolute() {
                    folder = PathBuf::from("/");
                }
                let mut further = names_of(&target);
                further.append(&mut names);
                names = further;
            }
            None => folder = at,
        }
    }
    places
}

/// The names of a path; `..` is one.
fn names_of(path: &Path) -> VecDeque<OsString> {
    let name = |component: Component<'_>| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    };
    path.components().filter_map(name).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn every_link_and_folder_on_the_way_is_a_place() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        // As Kubernetes mounts a secret.
        fs::create_dir_all(root.join("secret/..2026")).unwrap();
        fs::write(root.join("secret/..2026/tls.crt"), "").unwrap();
        symlink("..2026", root.join("secret/..data")).unwrap();
        symlink("..data/tls.crt", root.join("secret/tls.crt")).unwrap();
        symlink(root.join("secret"), root.join("current")).unwrap();
        let below_root = |path: &str| {
            let places = places(&root.join(path));
            let depth = root.components().count() - 1;
            assert!(places[..depth].iter().all(|place| !place.is_replaced));
            let shown = |place: &Place| {
                let folder = place.folder.strip_prefix(&root).ok()?.to_str().unwrap().to_owned();
                Some((folder, place.name.to_str().unwrap().to_owned(), place.is_replaced))
            };
            places.iter().filter_map(shown).collect::<Vec<_>>()
        };
        let place = |folder: &str, name: &str, is_replaced| (folder.to_owned(), name.to_owned(), is_replaced);
        let in_secret = [
            place("", "secret", false),
            place("secret", "tls.crt", true),
            place("secret", "..data", true),
            place("secret", "..2026", false),
            place("secret/..2026", "tls.crt", true),
        ];
        assert_eq!(below_root("secret/tls.crt"), in_secret);
        assert_eq!(below_root("current/tls.crt"), [&[place("", "current", true)], &in_secret[..]].concat());
        assert_eq!(
            below_root("secret/../missing/file"),
            [place("", "secret", false), place("", "missing", false), place("missing", "file", true)]
        );
    }

    #[test]
    fn a_circle_of_links_ends() {
        let folder = tempfile::tempdir().unwrap();
        symlink("b", folder.path().join("a")).unwrap();
        symlink("a", folder.path().join("b")).unwrap();
        assert!(places(&folder.path().join("a")).len() <= LINK_LIMIT + folder.path().components().count() + 1);
    }
}
