//! The output of a command, which the reader of a pipe may close early.

use std::error::Error;
use std::io::{self, ErrorKind, Stderr, Stdout, Write};
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

impl Output<Stderr> {
    /// Standard error.
    pub fn error() -> Self {
        Self(io::stderr())
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
}
