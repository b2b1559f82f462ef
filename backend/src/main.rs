//! The executable. All code is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    holodule_backend::program::main()
}
