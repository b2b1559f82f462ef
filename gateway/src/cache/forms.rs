//! The compressed forms of a cached response. Each is made once, and shared by all entries with the same body: a `304`
//! updates the fields of a response, but not its body.

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

/// The compressed forms of one entry.
#[derive(Debug, Default)]
pub(super) struct Forms {
    pub(super) bodies: Arc<Bodies>,
    /// Each is built when it is first sent.
    heads: [OnceLock<Option<Head>>; Encoding::ALL.len()],
}

/// The head of a compressed form: the fields, and serialized for HTTP/1.1.
#[derive(Debug)]
struct Head {
    header: ResponseHeader,
    wire: Box<[u8]>,
}

/// A compressed response, ready to be sent.
#[derive(Clone, Copy, Debug)]
pub struct EncodedResponse<'a> {
    /// The head for clients, without the fields that the gateway adds to each response.
    pub header: &'a ResponseHeader,
    /// The head serialized for HTTP/1.1, without the empty line.
    pub wire: &'a [u8],
    /// The complete body.
    pub body: &'a Bytes,
}

impl Forms {
    pub(super) fn of(bodies: Arc<Bodies>) -> Self {
        Self { bodies, heads: Default::default() }
    }

    /// The body in `encoding`; `None` before it was compressed.
    pub(super) fn body(&self, encoding: Encoding) -> Option<&Option<Bytes>> {
        self.bodies.get(encoding.index())?.get()
    }

    /// The response in `encoding` with the fields of `identity`, which come from the fields `stored` of the backend.
    pub(super) fn response(
        &self,
        encoding: Encoding,
        identity: &ResponseHeader,
        stored: &HeaderMap,
    ) -> Option<EncodedResponse<'_>> {
        let body = self.body(encoding)?.as_ref()?;
        let head = self.heads.get(encoding.index())?.get_or_init(|| Head::new(encoding, identity, stored, body).ok());
        let Head { header, wire } = head.as_ref()?;
        Some(EncodedResponse { header, wire, body })
    }

    /// The memory of the forms that exist, in bytes, with heads of at most `head` bytes.
    pub(super) fn size(&self, head: usize) -> usize {
        let bodies = self.bodies.iter().filter_map(|body| body.get()?.as_ref());
        bodies.map(|body| body.len() + head).sum()
    }
}

impl Head {
    fn new(encoding: Encoding, identity: &ResponseHeader, stored: &HeaderMap, body: &Bytes) -> Result<Self> {
        let mut header = identity.clone();
        encode_head(&mut header, encoding, stored)?;
        header.insert_header(CONTENT_LENGTH, body.len())?;
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

/// Marks a head of a route that compresses: the response varies by `Accept-Encoding`, and its tag differs from those
/// of compressed forms.
///
/// # Errors
/// A field cannot be set.
pub fn vary_head(header: &mut ResponseHeader, received: &HeaderMap) -> Result<()> {
    if let Some(vary) = merged_vary(&header.headers) {
        header.insert_header(VARY, vary)?;
    }
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
