//! A disk that is too slow: a library loaded before the C library makes the server's reads and writes wait.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use super::Cluster;

const SOURCE: &str = include_str!("disk.c");

impl Cluster {
    /// Starts the server again with a disk that `slow_down` can make slow; false without a C compiler, which Rust needs
    /// only as its linker.
    pub fn with_changeable_disk(&self) -> bool {
        let source = self.home.join("disk.c");
        fs::write(&source, SOURCE).expect("write a C file");
        let built = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .arg(self.disk_library())
            .arg(&source)
            .arg("-ldl")
            .status();
        if !built.is_ok_and(|it| it.success()) {
            return false;
        }
        self.stop();
        self.start();
        true
    }

    /// Makes its disk slow, or as it was.
    pub fn slow_down(&self, slow: bool) {
        let file = self.slow_disk();
        if slow {
            fs::write(file, "").expect("make the disk slow");
        } else {
            fs::remove_file(file).expect("make the disk as it was");
        }
    }

    pub(super) fn disk_library(&self) -> PathBuf {
        self.home.join("disk.so")
    }

    pub(super) fn slow_disk(&self) -> PathBuf {
        self.home.join("slow_disk")
    }
}
