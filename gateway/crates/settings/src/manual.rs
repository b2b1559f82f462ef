//! The manual pages and shell completions of a program, generated from its command line.

use std::io;
use std::path::Path;

use clap::Command;
use clap_complete::Shell;

/// Writes the manual pages of `command` and of its commands to the folder `man` in `folder`, and the completions for
/// bash, zsh and fish to `completions`. Existing files are replaced.
///
/// # Errors
/// Those of creating folders and files.
pub fn write_manual(command: Command, folder: &Path) -> io::Result<()> {
    let (man, completions) = (folder.join("man"), folder.join("completions"));
    std::fs::create_dir_all(&man)?;
    std::fs::create_dir_all(&completions)?;
    let name = command.get_name().to_owned();
    // A page about `help` would only repeat the others.
    let mut command = command.disable_help_subcommand(true);
    clap_mangen::generate_to(command.clone(), &man)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut command, &name, &completions)?;
    }
    Ok(())
}
