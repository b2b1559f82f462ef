//! One change stream over the database, resumed where it broke off.

use std::time::Duration;

use futures_util::stream::{self, BoxStream, StreamExt};
use mongodb::bson::{Document, RawDocument, RawDocumentBuf};
use mongodb::change_stream::ChangeStream;
use mongodb::change_stream::event::ResumeToken;
use mongodb::options::FullDocumentType;

use super::{Mongo, error};
use crate::store::StoreError;

/// The pause before a stream that could not be opened is opened again.
const PAUSE: Duration = Duration::from_millis(250);
/// How long the server may keep an answer back while there is nothing to tell.
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// How long it may give no answer before the stream is taken for lost and opened again.
const SILENCE: Duration = Duration::from_secs(5);

/// What is followed.
#[derive(Clone)]
pub(super) struct Followed<T> {
    /// For the log.
    pub(super) what: &'static str,
    /// Lets through what matters.
    pub(super) pipeline: Vec<Document>,
    /// What an event means; `None` for one that changes nothing.
    pub(super) change: fn(&RawDocument) -> Option<T>,
    /// Told where a stream begins, and what came before is not known.
    pub(super) anything: T,
}

impl Mongo {
    /// The changes from now on. An error tells that they cannot be followed just now; the end, that
    /// the server refuses to tell.
    pub(super) fn follow<T: Clone + Send + 'static>(
        &self,
        followed: Followed<T>,
    ) -> BoxStream<'static, Result<T, StoreError>> {
        let follower = Follower { mongo: self.clone(), followed, stream: None, resume: None };
        stream::unfold(follower, |mut follower| async move { Some((follower.next().await?, follower)) }).boxed()
    }
}

/// A change stream, and where to go on when it breaks off.
struct Follower<T> {
    mongo: Mongo,
    followed: Followed<T>,
    stream: Option<ChangeStream<RawDocumentBuf>>,
    /// Behind all that was read.
    resume: Option<ResumeToken>,
}

impl<T: Clone> Follower<T> {
    async fn next(&mut self) -> Option<Result<T, StoreError>> {
        loop {
            let Some(stream) = &mut self.stream else {
                match open(&self.mongo, &self.followed.pipeline, self.resume.clone()).await {
                    Ok(opened) => {
                        let resumed = self.resume.is_some();
                        self.resume = opened.resume_token();
                        self.stream = Some(opened);
                        if !resumed {
                            return Some(Ok(self.followed.anything.clone()));
                        }
                    }
                    Err(error @ StoreError::Unavailable(_)) => {
                        tokio::time::sleep(PAUSE).await;
                        return Some(Err(error));
                    }
                    // The server has no longer what lies behind that place.
                    Err(error) if self.resume.take().is_some() => return Some(Err(error)),
                    Err(error) => {
                        tracing::warn!(%error, "the server refuses change streams: {}", self.followed.what);
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
                        // One that comes back has no indexes.
                        self.mongo.indexes.again.notify_one();
                    }
                    if let Some(change) = event.as_deref().and_then(self.followed.change) {
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

fn is_end_of_collection(event: &RawDocument) -> bool {
    matches!(event.get_str("operationType"), Ok("drop" | "rename" | "dropDatabase" | "invalidate"))
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
