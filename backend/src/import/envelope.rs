//! What is around the elements of a JSON array: nothing, or an object with the member `holodules`, as in responses of
//! the api listener.

use std::io::{self, BufRead};

use super::{ImportError, ROW_LIMIT};

/// What is around an array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Envelope {
    /// The array is the file.
    None,
    /// The array is a member of an object.
    Object,
}

/// Reads up to the first element: of an array at the top level, or of the member `holodules` of an object.
pub(super) fn enter(reader: &mut Counted<impl BufRead>) -> Result<Envelope, ImportError> {
    let mut first = next_token(reader)?;
    if first == Some(0xEF) {
        let rest = [next_byte(reader)?, next_byte(reader)?];
        if rest != [Some(0xBB), Some(0xBF)] {
            return Err(ImportError::NoArray);
        }
        first = next_token(reader)?;
    }
    match first {
        Some(b'[') => Ok(Envelope::None),
        Some(b'{') => find_member(reader).map(|()| Envelope::Object),
        _ => Err(ImportError::NoArray),
    }
}

impl Envelope {
    /// Reads from the end of the array to the end of the file.
    ///
    /// # Errors
    /// [`ImportError::AfterArray`] if more follows than the other members of the object, and
    /// [`ImportError::EndsEarly`] if the object is not closed.
    pub(super) fn leave(self, reader: &mut Counted<impl BufRead>) -> Result<(), ImportError> {
        if self == Self::Object {
            let mut end = next_token(reader)?;
            while end != Some(b'}') {
                match end {
                    Some(b',') => {}
                    Some(_) => return Err(ImportError::AfterArray),
                    None => return Err(ImportError::EndsEarly),
                }
                if is_array(&name(reader)?.ok_or(ImportError::EndsEarly)?) {
                    return Err(ImportError::AfterArray);
                }
                let first = next_token(reader)?.ok_or(ImportError::EndsEarly)?;
                end = Some(skip_value(reader, first)?.ok_or(ImportError::EndsEarly)?);
            }
        }
        if next_token(reader)?.is_some() { Err(ImportError::AfterArray) } else { Ok(()) }
    }
}

/// The scanner state needed to find the end of a JSON value.
#[derive(Default)]
pub(super) struct Scan {
    pub(super) bytes: Vec<u8>,
    pub(super) cut: bool,
    pub(super) depth: u32,
    pub(super) text: bool,
    escaped: bool,
}

impl Scan {
    pub(super) fn take(&mut self, byte: u8) {
        if self.bytes.len() < ROW_LIMIT {
            self.bytes.push(byte);
        } else {
            self.cut = true;
        }
        if self.text {
            let escape = byte == b'\\' && !self.escaped;
            self.text = byte != b'"' || self.escaped;
            self.escaped = escape;
            return;
        }
        match byte {
            b'"' => self.text = true,
            b'{' | b'[' => self.depth = self.depth.saturating_add(1),
            b'}' | b']' => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
    }
}

/// A reader that counts bytes.
pub(super) struct Counted<R> {
    pub(super) reader: R,
    pub(super) read: usize,
}

/// Skips to the array of the member `holodules` within an object.
fn find_member(reader: &mut Counted<impl BufRead>) -> Result<(), ImportError> {
    loop {
        let is_array = is_array(&name(reader)?.ok_or(ImportError::NoArray)?);
        let first = next_token(reader)?.ok_or(ImportError::NoArray)?;
        if is_array {
            return if first == b'[' { Ok(()) } else { Err(ImportError::NoArray) };
        }
        if skip_value(reader, first)? != Some(b',') {
            return Err(ImportError::NoArray);
        }
    }
}

/// The name of the next member, as JSON; `None` if there is none.
fn name(reader: &mut Counted<impl BufRead>) -> io::Result<Option<Vec<u8>>> {
    let mut name = Scan::default();
    loop {
        match next_byte(reader)? {
            Some(b':') if name.depth == 0 && !name.text => return Ok(Some(name.bytes)),
            Some(b'}' | b',') if name.depth == 0 && !name.text => return Ok(None),
            Some(byte) => name.take(byte),
            None => return Ok(None),
        }
    }
}

fn is_array(name: &[u8]) -> bool {
    serde_json::from_slice::<String>(name).is_ok_and(|name| name == "holodules")
}

/// Skips the value of a member that begins with `first`. Returns the comma or brace after it; `None` if the file ends.
fn skip_value(reader: &mut Counted<impl BufRead>, first: u8) -> io::Result<Option<u8>> {
    let mut value = Scan::default();
    value.take(first);
    loop {
        match next_byte(reader)? {
            Some(end @ (b',' | b'}')) if value.depth == 0 && !value.text => return Ok(Some(end)),
            Some(byte) => value.take(byte),
            None => return Ok(None),
        }
    }
}

/// The next byte that is not JSON white space.
fn next_token(reader: &mut Counted<impl BufRead>) -> io::Result<Option<u8>> {
    loop {
        match next_byte(reader)? {
            Some(b' ' | b'\t' | b'\r' | b'\n') => {}
            other => return Ok(other),
        }
    }
}

pub(super) fn next_byte(reader: &mut Counted<impl BufRead>) -> io::Result<Option<u8>> {
    loop {
        match reader.reader.fill_buf() {
            Ok(buffer) => {
                let byte = buffer.first().copied();
                reader.reader.consume(usize::from(byte.is_some()));
                reader.read += usize::from(byte.is_some());
                return Ok(byte);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
