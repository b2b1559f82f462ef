//! The forms in which a cached response is sent. Each compressed body is made once, and shared by all entries with the
//! same body: a `304` updates the fields of a response, but not its body.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use http::header::{ACCEPT_RANGES, CONTENT_ENCODING, CONTENT_LENGTH, ETAG, VARY};
use http::{HeaderMap, HeaderValue};
use pingora::Result;
use pingora::http::ResponseHeader;

use crate::compress::{Encoding, TagChange, merged_vary, tag_of};
use crate::downstream::http1::put_status;

/// The compressed bodies of one body; `None` in a place means that compression does not make it smaller.
pub(super) type Bodies = [OnceLock<Option<Bytes>>; Encoding::ALL.len()];

/// The forms of one entry besides [`Form::Stored`].
#[derive(Debug, Default)]
pub(super) struct Forms {
    pub(super) bodies: Arc<Bodies>,
    /// Those of the compressed bodies. Each is built when it is first sent.
    heads: [OnceLock<Option<Head>>; Encoding::ALL.len()],
    /// That of [`Form::Identity`].
    identity: OnceLock<Option<Head>>,
}

/// The form in which a response is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// As it is stored: the request has no `Accept-Encoding`, or the route does not compress.
    Stored,
    /// The stored body, since the request does not accept another one.
    Identity,
    /// In this coding, if compression makes the body smaller.
    Encoded(Encoding),
}

/// The head of a form: the fields, and serialized for HTTP/1.1.
#[derive(Debug)]
struct Head {
    header: ResponseHeader,
    wire: Box<[u8]>,
}

/// A response in one form, ready to be sent.
#[derive(Clone, Copy, Debug)]
pub struct Representation<'a> {
    /// The head for clients, without the fields that the gateway adds to each response.
    pub header: &'a ResponseHeader,
    /// The head serialized for HTTP/1.1, without the empty line.
    pub wire: &'a [u8],
    /// The complete body.
    pub body: &'a Bytes,
}

impl Forms {
    pub(super) fn of(bodies: Arc<Bodies>) -> Self {
        Self { bodies, ..Self::default() }
    }

    /// The body in `encoding`; `None` before it was compressed.
    pub(super) fn body(&self, encoding: Encoding) -> Option<&Option<Bytes>> {
        self.bodies.get(encoding.index())?.get()
    }

    /// The response in `encoding` with the fields of the head `stored`, which come from the fields `received` of the
    /// backend; `None` if the body was not compressed.
    pub(super) fn encoded(
        &self,
        encoding: Encoding,
        stored: &ResponseHeader,
        received: &HeaderMap,
    ) -> Option<Representation<'_>> {
        let body = self.body(encoding)?.as_ref()?;
        let head =
            self.heads.get(encoding.index())?.get_or_init(|| Head::encoded(encoding, stored, received, body).ok());
        let Head { header, wire } = head.as_ref()?;
        Some(Representation { header, wire, body })
    }

    /// The response with its own `body` and the fields of the head `stored`.
    pub(super) fn identity<'a>(&'a self, stored: &ResponseHeader, body: &'a Bytes) -> Option<Representation<'a>> {
        let Head { header, wire } = self.identity.get_or_init(|| Head::varied(stored).ok()).as_ref()?;
        Some(Representation { header, wire, body })
    }

    /// The memory of the forms that exist, in bytes, with heads of at most `head` bytes.
    pub(super) fn size(&self, head: usize) -> usize {
        let bodies = self.bodies.iter().filter_map(|body| body.get()?.as_ref());
        bodies.map(|body| body.len() + head).sum()
    }
}

impl Head {
    fn encoded(encoding: Encoding, stored: &ResponseHeader, received: &HeaderMap, body: &Bytes) -> Result<Self> {
        let mut header = stored.clone();
        vary_head(&mut header)?;
        encode_head(&mut header, encoding, received)?;
        header.insert_header(CONTENT_LENGTH, body.len())?;
        let wire = serialized(&header);
        Ok(Self { header, wire })
    }

    fn varied(stored: &ResponseHeader) -> Result<Self> {
        let mut header = stored.clone();
        vary_head(&mut header)?;
        let wire = serialized(&header);
        Ok(Self { header, wire })
    }
}

/// Marks a head whose body is compressed by `encoding`. It comes from the fields `received` of the backend. A length
/// is removed.
///
/// # Errors
/// A field cannot be set.
pub fn encode_head(header: &mut ResponseHeader, encoding: Encoding, received: &HeaderMap) -> Result<()> {
    header.insert_header(CONTENT_ENCODING, HeaderValue::from_static(encoding.name()))?;
    let _ = header.remove_header(&CONTENT_LENGTH);
    // Ranges are parts of the other form.
    let _ = header.remove_header(&ACCEPT_RANGES);
    set_tag(header, Some(encoding), received)
}

/// Marks a head as varying by `Accept-Encoding`.
///
/// # Errors
/// The field cannot be set.
pub fn vary_head(header: &mut ResponseHeader) -> Result<()> {
    if let Some(vary) = merged_vary(&header.headers) {
        header.insert_header(VARY, vary)?;
    }
    Ok(())
}

/// Gives a head of a route that compresses a tag that differs from those of compressed forms.
///
/// # Errors
/// The field cannot be set.
pub fn distinguish_head(header: &mut ResponseHeader, received: &HeaderMap) -> Result<()> {
    set_tag(header, None, received)
}

fn set_tag(header: &mut ResponseHeader, encoding: Option<Encoding>, received: &HeaderMap) -> Result<()> {
    match tag_of(received, encoding) {
        TagChange::Keep => {}
        TagChange::Replace(tag) => header.insert_header(ETAG, tag)?,
        TagChange::Remove => _ = header.remove_header(&ETAG),
    }
    Ok(())
}

/// A head serialized for HTTP/1.1: status line and fields, without the empty line.
pub(super) fn serialized(header: &ResponseHeader) -> Box<[u8]> {
    let mut wire = Vec::new();
    put_status(&mut wire, header.status);
    header.header_to_h1_wire(&mut wire);
    wire.into_boxed_slice()
}
