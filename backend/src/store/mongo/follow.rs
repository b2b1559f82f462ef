//! A change stream of the database that is resumed after failures.

use std::time::Duration;

use futures_util::stream::{self, BoxStream, StreamExt};
use mongodb::bson::{Document, RawDocument, RawDocumentBuf};
use mongodb::change_stream::ChangeStream;
use mongodb::change_stream::event::ResumeToken;
use mongodb::options::FullDocumentType;

use super::event::is_end_of_collection;
use super::{Mongo, error};
use crate::store::StoreError;

/// The pause before a stream is opened again.
const PAUSE: Duration = Duration::from_millis(250);
/// How long the server may delay a response without events.
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// How long the server may be silent before the stream is opened again.
const SILENCE: Duration = Duration::from_secs(5);

/// What a stream reports.
#[derive(Clone)]
pub(super) struct StreamConfig<T> {
    /// What happens without change streams, for the log.
    pub(super) fallback: &'static str,
    /// Selects the relevant events.
    pub(super) pipeline: Vec<Document>,
    /// The change described by an event; `None` for an irrelevant one.
    pub(super) change: fn(&RawDocument) -> Option<T>,
    /// Reported when a stream starts without knowledge of earlier changes.
    pub(super) initial: T,
}

impl Mongo {
    /// Streams changes from now on. An error means that changes are currently not received; the end, that the server
    /// refuses change streams.
    pub(super) fn follow<T: Clone + Send + 'static>(
        &self,
        config: StreamConfig<T>,
    ) -> BoxStream<'static, Result<T, StoreError>> {
        let stream = ResumingStream { mongo: self.clone(), config, stream: None, resume: None };
        stream::unfold(stream, |mut stream| async move { Some((stream.next().await?, stream)) }).boxed()
    }
}

/// A change stream and its resume token.
struct ResumingStream<T> {
    mongo: Mongo,
    config: StreamConfig<T>,
    stream: Option<ChangeStream<RawDocumentBuf>>,
    /// After the last event read.
    resume: Option<ResumeToken>,
}

impl<T: Clone> ResumingStream<T> {
    async fn next(&mut self) -> Option<Result<T, StoreError>> {
        loop {
            let Some(stream) = &mut self.stream else {
                match open(&self.mongo, &self.config.pipeline, self.resume.clone()).await {
                    Ok(opened) => {
                        let resumed = self.resume.is_some();
                        self.resume = opened.resume_token();
                        self.stream = Some(opened);
                        if !resumed {
                            return Some(Ok(self.config.initial.clone()));
                        }
                    }
                    Err(error @ StoreError::Unavailable(_)) => {
                        tokio::time::sleep(PAUSE).await;
                        return Some(Err(error));
                    }
                    // The server no longer has the events after that token.
                    Err(error) if self.resume.take().is_some() => return Some(Err(error)),
                    Err(error) => {
                        tracing::warn!(%error, "the server refuses change streams: {}", self.config.fallback);
                        return None;
                    }
                }
                continue;
            };
            match tokio::time::timeout(SILENCE, stream.next_if_any()).await {
                Ok(Ok(event)) => {
                    self.resume = stream.resume_token();
                    if !stream.is_alive() {
                        (self.stream, self.resume) = (None, None);
                    }
                    if event.as_deref().is_some_and(is_end_of_collection) {
                        // A collection that is created again has no indexes.
                        self.mongo.indexes.again.notify_one();
                    }
                    if let Some(change) = event.as_deref().and_then(self.config.change) {
                        return Some(Ok(change));
                    }
                }
                Ok(Err(error)) => {
                    self.stream = None;
                    return Some(Err(error::store_error(&self.mongo.server, &error)));
                }
                Err(_) => {
                    self.stream = None;
                    return Some(Err(StoreError::Unavailable("the change stream is silent".to_owned())));
                }
            }
        }
    }
}

async fn open(
    mongo: &Mongo,
    pipeline: &[Document],
    resume: Option<ResumeToken>,
) -> Result<ChangeStream<RawDocumentBuf>, StoreError> {
    let watch = mongo.database.watch().pipeline(pipeline.to_vec()).max_await_time(LONGEST_WAIT);
    let watch = watch.full_document(FullDocumentType::UpdateLookup).selection_criteria(super::primary());
    let opened = mongo.within(async {
        match resume {
            Some(token) => watch.start_after(token).await,
            None => watch.await,
        }
    });
    Ok(opened.await?.with_type())
}
