//! The output of a command, which the reader of a pipe may close early.

use std::error::Error;
use std::fmt::Display;
use std::io::{self, ErrorKind, Stdout, Write};
use std::process::ExitCode;

/// The exit status if the reader closed the output. A shell reports the same for a program that SIGPIPE ended: 128 + 13.
const CLOSED: u8 = 141;

/// A stream that a command writes its results to. If its reader has closed it, as `head` does, writing fails with an
/// error that [`closed_status`] recognises. A broken pipe of a connection does not count as such.
#[derive(Debug)]
pub struct Output<W>(W);

/// The reader has closed the output.
#[derive(Debug, thiserror::Error)]
#[error("the reader has closed the output")]
struct Closed;

impl Output<Stdout> {
    /// Standard output.
    pub fn standard() -> Self {
        Self(io::stdout())
    }
}

impl<W: Write> Output<W> {
    /// A named file, which may be a pipe.
    pub fn to(file: W) -> Self {
        Self(file)
    }
}

impl<W: Write> Write for Output<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes).map_err(marked)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush().map_err(marked)
    }
}

/// Standard output of a command that changes something. Such a command finishes its work even if its results cannot be
/// written: [`Results::finish`] returns the error.
#[derive(Debug)]
pub struct Results<W> {
    out: Output<W>,
    written: io::Result<()>,
}

impl Results<Stdout> {
    /// Standard output.
    pub fn standard() -> Self {
        Self::to(io::stdout())
    }
}

impl<W: Write> Results<W> {
    fn to(out: W) -> Self {
        Self { out: Output(out), written: Ok(()) }
    }

    /// Writes a line, unless an earlier one could not be written.
    pub fn print(&mut self, line: impl Display) {
        if self.written.is_ok() {
            self.written = writeln!(self.out, "{line}");
        }
    }

    /// Returns the exit status of the command: `status`, which has to be that of its work.
    ///
    /// # Errors
    /// A line could not be written. If the reader has closed the output, this is an error only if `status` is success:
    /// another status is more important.
    pub fn finish(self, status: ExitCode) -> io::Result<ExitCode> {
        match self.written {
            Ok(()) => Ok(status),
            Err(error) if closed_status(&error).is_none() => {
                Err(io::Error::new(error.kind(), format!("done, but the result cannot be written: {error}")))
            }
            Err(error) if status == ExitCode::SUCCESS => Err(error),
            Err(_) => Ok(status),
        }
    }
}

fn marked(error: io::Error) -> io::Error {
    if error.kind() == ErrorKind::BrokenPipe { io::Error::new(ErrorKind::BrokenPipe, Closed) } else { error }
}

/// The exit status of a command that failed because the reader of its [`Output`] has closed it: 141, without a message.
/// `None` for any other error.
pub fn closed_status(error: &(dyn Error + 'static)) -> Option<ExitCode> {
    let cause = error.downcast_ref::<io::Error>()?.get_ref()?;
    cause.is::<Closed>().then(|| ExitCode::from(CLOSED))
}

/// Prints the help, the version or the error of a command line. The exit status is 0 for help and version, `failure`
/// for an error or if nothing can be written, and 141 if the reader has closed the output.
pub fn print_usage(error: &clap::Error, failure: u8) -> ExitCode {
    match error.print() {
        Ok(()) if error.use_stderr() => ExitCode::from(failure),
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == ErrorKind::BrokenPipe => ExitCode::from(CLOSED),
        Err(error) => {
            // If standard error cannot be written either, there is no other place to report to.
            let _ = writeln!(io::stderr(), "{error}");
            ExitCode::from(failure)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error_of(write: impl Write) -> Box<dyn Error> {
        Output::to(write).write_all(b"x").unwrap_err().into()
    }

    #[test]
    fn only_a_closed_output_is_quiet() {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        assert!(closed_status(error_of(writer).as_ref()).is_some());
        let full = std::fs::File::create("/dev/full").unwrap();
        assert!(closed_status(error_of(full).as_ref()).is_none());
        let connection: Box<dyn Error> = io::Error::from(ErrorKind::BrokenPipe).into();
        assert!(closed_status(connection.as_ref()).is_none());
    }

    #[test]
    fn the_status_of_the_work_is_more_important_than_a_closed_output() {
        let finished = |writer: Box<dyn Write>, status| {
            let mut results = Results::to(writer);
            results.print("first");
            results.print("second");
            results.finish(ExitCode::from(status))
        };
        let closed = || {
            let (reader, writer) = io::pipe().unwrap();
            drop(reader);
            Box::new(writer)
        };
        assert_eq!(finished(Box::new(io::sink()), 2).unwrap(), ExitCode::from(2));
        assert_eq!(finished(closed(), 2).unwrap(), ExitCode::from(2));
        assert_eq!(closed_status(&finished(closed(), 0).unwrap_err()), Some(ExitCode::from(CLOSED)));
        for status in [0, 2] {
            let full = Box::new(std::fs::File::create("/dev/full").unwrap());
            let error = finished(full, status).unwrap_err();
            assert!(closed_status(&error).is_none());
            assert!(error.to_string().starts_with("done, but the result cannot be written: No space left"), "{error}");
        }
    }
}
