//! Lines on their way out: gathered from all threads, written by one of its own.
//!
//! Who has a line adds it to those that wait, under a lock that is held for a copy of some hundred
//! bytes, and goes on. The writer takes all of them at once, with one `write(2)`, and then rests
//! for [`PAUSE`] so that the next can gather: only where nothing came meanwhile does the next
//! line have to wake it.
//!
//! A reader that stalls costs lines, which are counted, and never a worker. Memory: [`MAX_BYTES`]
//! that wait, and as many that are being written.

use std::io::{self, ErrorKind, Write};
use std::mem;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

/// The most that may wait, in bytes: some ten thousand lines.
const MAX_BYTES: usize = 4 * 1024 * 1024;

/// The memory that is kept for the next lines, in bytes.
const KEPT_BYTES: usize = 256 * 1024;

/// How long lines gather while some come.
const PAUSE: Duration = Duration::from_millis(10);

/// How long the end waits for a reader that takes nothing.
const END_TIMEOUT: Duration = Duration::from_secs(1);

/// Where lines are left. A clone leaves them in the same place.
#[derive(Clone)]
pub struct Lines(Arc<Shared>);

#[derive(Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    /// The writer is to look again.
    wake: Condvar,
    /// The writer has ended.
    end: Condvar,
    lost: AtomicU64,
}

#[derive(Default)]
struct Waiting {
    lines: Vec<u8>,
    /// The writer sleeps until it is woken.
    is_idle: bool,
    /// No more lines are taken.
    is_closed: bool,
    has_ended: bool,
}

/// Keeps the writer; dropping it writes what still waits.
pub(super) struct Guard(Lines);

/// Starts the thread that writes to `out`.
///
/// # Errors
/// The system has no thread for it.
pub(super) fn start(mut out: impl Write + Send + 'static) -> io::Result<(Lines, Guard)> {
    let lines = Lines(Arc::default());
    let written = lines.clone();
    thread::Builder::new().name("log".to_owned()).spawn(move || written.write_to(&mut out))?;
    Ok((lines.clone(), Guard(lines)))
}

impl Lines {
    /// Leaves one `line`, its newline included: whole, or, where too many wait, not at all.
    pub fn push(&self, line: &[u8]) {
        let mut waiting = self.lock();
        if waiting.is_closed || line.len() > MAX_BYTES - waiting.lines.len() {
            drop(waiting);
            self.0.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        waiting.lines.extend_from_slice(line);
        let is_idle = mem::take(&mut waiting.is_idle);
        drop(waiting);
        if is_idle {
            self.0.wake.notify_one();
        }
    }

    /// How many lines were lost, since the reader stalled or is gone.
    pub fn lost(&self) -> u64 {
        self.0.lost.load(Ordering::Relaxed)
    }

    /// The writer's work, until no more lines are taken and none waits.
    fn write_to(&self, out: &mut impl Write) {
        let mut batch = Vec::new();
        let mut is_torn = false;
        while let Some(is_last) = self.take(&mut batch) {
            if is_torn {
                // What could not be ended must not run into what follows.
                batch.insert(0, b'\n');
            }
            let written = write(out, &batch);
            let (done, rest) = batch.split_at_checked(written).unwrap_or((&batch, &[]));
            is_torn = done.last().map_or(is_torn, |last| *last != b'\n');
            let lost = rest.iter().filter(|byte| **byte == b'\n').count();
            self.0.lost.fetch_add(lost as u64, Ordering::Relaxed);
            batch.clear();
            batch.shrink_to(KEPT_BYTES);
            if !is_last {
                thread::sleep(PAUSE);
            }
        }
        self.lock().has_ended = true;
        self.0.end.notify_all();
    }

    /// Waits for lines, and takes all there are for the empty `batch`. Tells whether they are
    /// the last; `None` where there are no more.
    fn take(&self, batch: &mut Vec<u8>) -> Option<bool> {
        let mut waiting = self.lock();
        while waiting.lines.is_empty() {
            if waiting.is_closed {
                return None;
            }
            waiting.is_idle = true;
            waiting = self.0.wake.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
        waiting.is_idle = false;
        mem::swap(&mut waiting.lines, batch);
        Some(waiting.is_closed)
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Bytes are bytes, wherever a thread panicked.
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes `bytes`, and tells how many of them could be.
fn write(out: &mut impl Write, bytes: &[u8]) -> usize {
    let mut written = 0;
    while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
        match out.write(rest) {
            Ok(0) => break,
            Ok(count) => written += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // Whoever shares standard output with us may have made it so.
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(PAUSE),
            Err(_) => break,
        }
    }
    written
}

impl Drop for Guard {
    fn drop(&mut self) {
        let Self(lines) = self;
        let mut waiting = lines.lock();
        waiting.is_closed = true;
        lines.0.wake.notify_one();
        // Without an end the reader has stalled, and the process must not wait for it for ever.
        let _ = lines.0.end.wait_timeout_while(waiting, END_TIMEOUT, |waiting| !waiting.has_ended);
    }
}

/// `tracing` writes each event at once, as one line.
impl Write for &Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> &'a Self {
        self
    }
}

#[cfg(test)]
mod tests;
