//! `man`: the manual pages.

use std::fmt;
use std::path::PathBuf;

use clap_mangen::Man as Page;
use serde::Serialize;

use super::definition;
use crate::error::{Result, WrapErr};
use crate::report::Outcome;

/// Print the manual page, or write one for every command into a directory
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Changes: nothing on any server. With DIR, writes flare.1 and a page for every command there.

Example:
  flare man | man -l -
  flare man /usr/local/share/man/man1")]
pub(crate) struct Man {
    /// The directory; without it the main page goes to standard output
    #[arg(value_name = "DIR")]
    directory: Option<PathBuf>,
}

/// The main page, or the files that were written.
#[derive(Serialize)]
struct Pages {
    page: Option<String>,
    files: Vec<PathBuf>,
}

impl fmt::Display for Pages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(page) = &self.page {
            f.write_str(page)?;
        }
        let mut files = self.files.iter();
        files.try_for_each(|file| writeln!(f, "{}", file.display()))
    }
}

impl Man {
    pub(crate) fn run(&self) -> Result<Outcome> {
        let mut definition = definition();
        definition.build();
        let Some(directory) = &self.directory else {
            return Outcome::of(&Pages {
                page: Some(String::from_utf8_lossy(&rendered(definition)?).into_owned()),
                files: Vec::new(),
            });
        };
        std::fs::create_dir_all(directory)
            .wrap_err_with(|| format!("create the directory {}", directory.display()))?;
        let shown = definition
            .get_subcommands()
            .filter(|command| !command.is_hide_set());
        let mut pages: Vec<(String, clap::Command)> = shown
            .map(|command| (format!("flare-{}", command.get_name()), command.clone()))
            .collect();
        pages.insert(0, ("flare".to_owned(), definition));
        let mut files = Vec::new();
        for (name, command) in pages {
            let path = directory.join(format!("{name}.1"));
            let page = rendered(command.name(name))?;
            std::fs::write(&path, page).wrap_err_with(|| format!("write {}", path.display()))?;
            files.push(path);
        }
        Outcome::of(&Pages { page: None, files })
    }
}

fn rendered(command: clap::Command) -> Result<Vec<u8>> {
    let mut page = Vec::new();
    Page::new(command)
        .render(&mut page)
        .wrap_err("write the manual page")?;
    Ok(page)
}
