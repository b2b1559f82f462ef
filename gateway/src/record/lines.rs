//! The log writer: lines of all threads are buffered and written by one thread.
//!
//! A thread appends its line to the buffer under a lock, held only to copy some hundred bytes. The writer
//! takes the whole buffer, writes it with one `write(2)`, and then sleeps for [`PAUSE`] so that lines can
//! accumulate. Only if none arrived meanwhile must the next line wake it.
//!
//! If the reader of the log stalls, lines are dropped and counted; workers never block. Memory: up to
//! [`MAX_BYTES`] buffered, and as much being written.

use std::io::{self, ErrorKind, Write};
use std::mem;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

/// Maximum size of the buffer, in bytes: some ten thousand lines.
const MAX_BYTES: usize = 4 * 1024 * 1024;

/// Maximum capacity retained for the next lines after a write, in bytes.
const KEPT_BYTES: usize = 256 * 1024;

/// How long the writer lets lines accumulate between writes.
const PAUSE: Duration = Duration::from_millis(10);

/// How long shutdown waits for a stalled reader.
const END_TIMEOUT: Duration = Duration::from_secs(1);

/// A handle to the log writer. Clones share its buffer.
#[derive(Clone)]
pub struct Lines(Arc<Shared>);

#[derive(Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    /// Notified when there are lines, or when the buffer is closed.
    wake: Condvar,
    /// Notified when the writer has ended.
    end: Condvar,
    lost: AtomicU64,
}

#[derive(Default)]
struct Waiting {
    lines: Vec<u8>,
    /// The writer waits for `wake`.
    is_idle: bool,
    /// No more lines are accepted.
    is_closed: bool,
    has_ended: bool,
}

/// Guard of the writer; dropping it writes the buffered lines and ends the thread.
pub(super) struct Guard(Lines);

/// Starts the thread that writes to `out`.
///
/// # Errors
/// The thread cannot be started.
pub(super) fn start(mut out: impl Write + Send + 'static) -> io::Result<(Lines, Guard)> {
    let lines = Lines(Arc::default());
    let written = lines.clone();
    thread::Builder::new().name("log".to_owned()).spawn(move || written.write_to(&mut out))?;
    Ok((lines.clone(), Guard(lines)))
}

impl Lines {
    /// Appends one `line`, including its newline. It is dropped if the buffer is full.
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

    /// The number of lines lost because the reader stalled or closed its end.
    pub fn lost(&self) -> u64 {
        self.0.lost.load(Ordering::Relaxed)
    }

    /// Runs the writer until the buffer is closed and empty.
    fn write_to(&self, out: &mut impl Write) {
        let mut batch = Vec::new();
        let mut is_torn = false;
        while let Some(is_last) = self.take(&mut batch) {
            if is_torn {
                // Separates a partly written line from the next one.
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

    /// Waits for lines and swaps all of them into the empty `batch`. Returns whether they are the last; `None`
    /// if none is left.
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
        // The buffer stays valid if a thread panicked while holding the lock.
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes `bytes` and returns how many were written.
fn write(out: &mut impl Write, bytes: &[u8]) -> usize {
    let mut written = 0;
    while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
        match out.write(rest) {
            Ok(0) => break,
            Ok(count) => written += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // Another process that shares standard output may have made it non-blocking.
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
        // If the timeout expires, the reader has stalled, and the process must not wait for it.
        let _ = lines.0.end.wait_timeout_while(waiting, END_TIMEOUT, |waiting| !waiting.has_ended);
    }
}

/// `tracing` writes each event as one line, in one call.
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
