//! Writes files atomically. Both programs write all files given by path with this module.

mod access;

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The maximum number of links followed, as in the kernel.
const LINK_LIMIT: usize = 40;
/// Names tried for a draft. They are random, so that even a second is unlikely.
const DRAFT_NAMES: usize = 100;
/// The mode of a new private file.
const PRIVATE: u32 = 0o600;
/// The mode of a new public file, before the umask.
const PUBLIC: u32 = 0o644;

/// Replaces the file at `path` by one with `content`, as [`Replacement`] does. A new file has mode 0644 minus the
/// umask.
///
/// # Errors
/// As [`Replacement`].
pub fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = Replacement::with_mode(path, PUBLIC)?;
    file.write_all(content)?;
    file.commit()
}

/// A file in progress that gets its name when it is complete.
///
/// - A regular file is replaced atomically: readers see the old or the new file. The new one has the mode, owner, group
///   and access control list of the old one.
/// - A symbolic link is followed: its target is replaced.
/// - A FIFO, a device or an open file of a process (`/dev/stdout`, `/dev/fd/3`) is written to directly, since it cannot
///   be replaced.
///
/// The content and the folder are synced, so that after a crash the old or the new file exists. A folder without read
/// permission cannot be synced. If dropped before [`Replacement::commit`], the old file is unchanged.
#[derive(Debug)]
pub struct Replacement {
    file: File,
    /// The draft and its target; `None` if the file is written to directly.
    draft: Option<Draft>,
}

#[derive(Debug)]
struct Draft {
    path: PathBuf,
    target: PathBuf,
    /// The folder of both; `None` without read permission.
    folder: Option<File>,
}

impl Replacement {
    /// Starts to write the file at `path`. A new file has mode 0600.
    ///
    /// # Errors
    /// The folder does not exist or is not writable, `path` is a folder, or the owner or the access control list of the
    /// existing file cannot be preserved. Nothing was written then, and the existing file is unchanged.
    pub fn begin(path: &Path) -> io::Result<Self> {
        Self::with_mode(path, PRIVATE)
    }

    fn with_mode(path: &Path, new_mode: u32) -> io::Result<Self> {
        // Opened by the original path: a target of a link in `/proc` may have no name.
        let direct = |file: io::Result<File>| Ok(Self { file: file?, draft: None });
        let existing = match fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => return Err(io::ErrorKind::IsADirectory.into()),
            Ok(metadata) => Some(metadata),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let target = match resolve(path)? {
            Resolved::Open(path) => return direct(open_file(&path)),
            Resolved::Path(_) if existing.as_ref().is_some_and(|existing| !existing.is_file()) => {
                return direct(OpenOptions::new().write(true).open(path));
            }
            Resolved::Path(target) => target,
        };
        // Opened before the rename: a later error would be reported although the file was replaced.
        let folder = match File::open(folder(&target)) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => None,
            folder => Some(folder?),
        };
        let (file, path) = create_draft(&target, if existing.is_some() { PRIVATE } else { new_mode })?;
        // From here on the draft is removed on failure.
        let replacement = Self { file, draft: Some(Draft { path, target: target.clone(), folder }) };
        if let Some(existing) = existing {
            access::copy_permissions(&target, &existing, &replacement.file)?;
        }
        Ok(replacement)
    }

    /// Completes the file: its content is on disk under the requested name.
    ///
    /// # Errors
    /// The disk is full or fails, or the folder has changed. The old file is unchanged, unless it is written to
    /// directly.
    pub fn commit(mut self) -> io::Result<()> {
        let Some(draft) = &mut self.draft else { return sync_if_possible(&self.file) };
        self.file.sync_all()?;
        fs::rename(&draft.path, &draft.target)?;
        let folder = draft.folder.take();
        self.draft = None;
        folder.map_or(Ok(()), |folder| sync_if_possible(&folder))
    }
}

impl Write for Replacement {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Replacement {
    fn drop(&mut self) {
        if let Some(draft) = &self.draft {
            // The caller has the relevant error; a remaining draft is harmless.
            let _ = fs::remove_file(&draft.path);
        }
    }
}

/// Syncs `file`, unless it is a pipe, a terminal or a folder that cannot be synced.
fn sync_if_possible(file: &File) -> io::Result<()> {
    file.sync_all().or_else(|error| {
        let cannot = matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported);
        if cannot { Ok(()) } else { Err(error) }
    })
}

/// The path of the file at `path` after following the symbolic links at its end. The file may not exist yet.
///
/// # Errors
/// A folder of the path does not exist or cannot be searched, or the links form a loop.
pub fn resolved(path: &Path) -> io::Result<PathBuf> {
    resolve(path).map(|(Resolved::Path(path) | Resolved::Open(path))| path)
}

/// Whether [`Replacement`] replaces or creates the file at `path`, rather than writing to it directly.
///
/// # Errors
/// As [`resolved`].
pub fn is_replaceable(path: &Path) -> io::Result<bool> {
    let Resolved::Path(path) = resolve(path)? else { return Ok(false) };
    match fs::metadata(path) {
        Ok(metadata) => Ok(metadata.is_file()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error),
    }
}

/// The target of a path after following links.
enum Resolved {
    /// The path of a file that may not exist yet.
    Path(PathBuf),
    /// The link in `/proc` to an open file of a process.
    Open(PathBuf),
}

/// Follows the links at the end of `path`. Links among its folders are left to the kernel.
fn resolve(path: &Path) -> io::Result<Resolved> {
    let mut path = path.to_owned();
    for _ in 0..LINK_LIMIT {
        let is_link = match fs::symlink_metadata(&path) {
            Ok(metadata) => metadata.is_symlink(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(error),
        };
        if !is_link {
            return Ok(Resolved::Path(path));
        }
        // A link there cannot be followed by its text.
        if fs::canonicalize(folder(&path))?.starts_with("/proc") {
            return Ok(Resolved::Open(path));
        }
        path = folder(&path).join(fs::read_link(&path)?);
    }
    Err(io::Error::other("too many levels of symbolic links"))
}

/// Opens a file that a process has open. The program's own streams are shared, including the position; others are
/// appended to.
fn open_file(path: &Path) -> io::Result<File> {
    let own = fs::canonicalize(folder(path))?.starts_with(format!("/proc/{}", std::process::id()));
    match path.file_name().and_then(OsStr::to_str) {
        Some("1") if own => io::stdout().as_fd().try_clone_to_owned().map(File::from),
        Some("2") if own => io::stderr().as_fd().try_clone_to_owned().map(File::from),
        _ => OpenOptions::new().append(true).open(path),
    }
}

/// Creates a file in the folder of `target`, since only a rename within a file system is atomic.
fn create_draft(target: &Path, mode: u32) -> io::Result<(File, PathBuf)> {
    // Random, because killed programs leave drafts, and in a container all of them have the same process id.
    let random = RandomState::new();
    let mut last = io::Error::from(io::ErrorKind::AlreadyExists);
    for number in 0..DRAFT_NAMES {
        // Short, because the target's name may have the maximum length.
        let path = folder(target).join(format!(".holodule-{:016x}", random.hash_one(number)));
        match OpenOptions::new().write(true).create_new(true).mode(mode).open(&path) {
            Ok(file) => return Ok((file, path)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => last = error,
            Err(error) => return Err(error),
        }
    }
    Err(last)
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests;
