//! Reads files with a size limit, since a path may name an endless device.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

/// The maximum size of a configuration file or `.env`, in bytes.
pub(crate) const SETTINGS_LIMIT: u64 = 1024 * 1024;

/// The content of the file at `path`.
///
/// # Errors
/// The file cannot be read, or has more than `limit` bytes.
pub(crate) fn read_bounded(path: &Path, limit: u64) -> Result<Vec<u8>, String> {
    read(path, limit).map_err(|error| error.to_string())?
}

/// The same, with system errors separate.
pub(crate) fn read(path: &Path, limit: u64) -> std::io::Result<Result<Vec<u8>, String>> {
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    if length > limit {
        return Ok(Err(format!("the file has {length} bytes, over {limit}")));
    }
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Ok(Err(format!("the file has more than {limit} bytes")));
    }
    Ok(Ok(bytes))
}
