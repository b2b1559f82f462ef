//! Copies the owner, the group, the mode and the access control list of a file.

use std::fs::{File, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::Path;

use rustix::fs::{XattrFlags, fremovexattr, fsetxattr, getxattr};
use rustix::io::Errno;

/// The permission bits of a mode.
pub(super) const PERMISSIONS: u32 = 0o7777;
/// The extended attribute of the access control list (acl(5)).
const ACL: &str = "system.posix_acl_access";
/// The maximum size of an extended attribute, in bytes (xattr(7)).
const MAX_ACL_BYTES: usize = 64 * 1024;

/// Copies the owner, the group, the access control list and the mode of the file at `path` to `new`. `old` is the
/// metadata of that file.
///
/// # Errors
/// One of them cannot be copied.
pub(super) fn copy_permissions(path: &Path, old: &Metadata, new: &File) -> io::Result<()> {
    let made = new.metadata()?;
    if (made.uid(), made.gid()) != (old.uid(), old.gid()) {
        fchown(new, Some(old.uid()), Some(old.gid())).map_err(|error| {
            let (user, group) = (old.uid(), old.gid());
            io::Error::new(error.kind(), format!("its owner, {user}:{group}, cannot be preserved: {error}"))
        })?;
    }
    // The group bits in the mode of a file with a list are the mask of that list. Without the list they would be rights
    // of the group.
    let copied = match acl(path)? {
        Some(acl) => fsetxattr(new, ACL, &acl, XattrFlags::empty()),
        // The folder may have a default list.
        None => match fremovexattr(new, ACL) {
            Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(()),
            removed => removed,
        },
    };
    copied.map_err(|error| {
        let error = io::Error::from(error);
        io::Error::new(error.kind(), format!("its access control list cannot be preserved: {error}"))
    })?;
    // Last, because changing the owner clears some bits.
    new.set_permissions(Permissions::from_mode(old.mode() & PERMISSIONS))
}

/// The access control list of the file at `path`, if any.
fn acl(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let mut acl = vec![0; MAX_ACL_BYTES];
    match getxattr(path, ACL, acl.as_mut_slice()) {
        Ok(length) => {
            acl.truncate(length);
            Ok(Some(acl))
        }
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::Replacement;
    use super::*;

    /// Replaces the file at `path`.
    fn replace(path: &Path) -> io::Result<()> {
        Replacement::begin(path)?.commit()
    }

    /// A list that allows the user 1000 to read a file, but not its group. Its mask is `r--`.
    fn list() -> Vec<u8> {
        const NO_ID: u32 = u32::MAX;
        // The owner, a user, the group, the mask and others.
        let entries = [(1_u16, 6, NO_ID), (2, 4, 1000), (4, 0, NO_ID), (16, 4, NO_ID), (32, 0, NO_ID)];
        let mut list = 2_u32.to_le_bytes().to_vec();
        for (tag, rights, id) in entries {
            list.extend(tag.to_le_bytes());
            list.extend(u16::to_le_bytes(rights));
            list.extend(id.to_le_bytes());
        }
        list
    }

    #[test]
    fn the_owner_is_preserved_or_nothing_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        let new = File::create(&path).unwrap();
        let is_root = new.metadata().unwrap().uid() == 0;
        if is_root {
            fs::write(&path, "old").unwrap();
            fchown(&new, Some(65_534), Some(65_533)).unwrap();
            replace(&path).unwrap();
            let kept = fs::metadata(&path).unwrap();
            assert_eq!((kept.uid(), kept.gid()), (65_534, 65_533));
        } else {
            // Only root can create a file of another owner; this one always exists.
            let passwd = Path::new("/etc/passwd");
            let refused = copy_permissions(passwd, &fs::metadata(passwd).unwrap(), &new).unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);
            assert!(refused.to_string().starts_with("its owner, 0:0, cannot be preserved"), "{refused}");
        }
    }

    #[test]
    fn the_access_control_list_is_preserved() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        let file = File::create(&path).unwrap();
        fsetxattr(&file, ACL, &list(), XattrFlags::empty()).unwrap();
        assert_eq!(file.metadata().unwrap().mode() & PERMISSIONS, 0o640, "its mask is the group part of the mode");
        replace(&path).unwrap();
        assert_ne!(fs::metadata(&path).unwrap().ino(), file.metadata().unwrap().ino());
        assert_eq!(acl(&path).unwrap(), Some(list()));
    }

    #[test]
    fn a_default_list_of_the_folder_does_not_apply_to_a_replaced_file_without_a_list() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        let default = File::open(folder.path()).unwrap();
        fsetxattr(&default, "system.posix_acl_default", &list(), XattrFlags::empty()).unwrap();
        replace(&path).unwrap();
        assert_eq!(acl(&path).unwrap(), None);
        assert_eq!(fs::metadata(&path).unwrap().mode() & PERMISSIONS, 0o640);
    }
}
