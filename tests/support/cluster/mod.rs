//! One server: made, started, asked, frozen, killed.

mod ask;
mod data;
mod disk;
mod life;
mod programs;
mod rds;

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::process::Child;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

pub use self::life::any_port;
use self::programs::Programs;
pub use self::programs::{as_server_user, reachable, server_user};
use super::run;

/// The administrator's password on every server. Quoting has to get it right.
pub const PASSWORD: &str = "admin's \"secret\" \\ %41@:/#";

/// Which side of a migration a shared server stands on. The two are never the same server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    Publisher,
    Subscriber,
}

/// Whether the administrator is a superuser.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Flavour {
    Vanilla,
    Rds,
}

/// Whether other tests use it at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    Shared,
    Private,
}

/// A server of some version in a directory of the run. A private one ends with its value.
pub struct Cluster {
    version: u32,
    flavour: Flavour,
    used: Use,
    programs: Programs,
    home: PathBuf,
    port: u16,
    postmaster: Mutex<Option<Child>>,
}

impl Cluster {
    /// The old server of this version, shared by all tests of the program.
    pub fn publisher(version: u32) -> Arc<Self> {
        Self::shared(Role::Publisher, version, Flavour::Vanilla)
    }

    /// The new server of this version, shared by all tests of the program.
    pub fn subscriber(version: u32) -> Arc<Self> {
        Self::shared(Role::Subscriber, version, Flavour::Vanilla)
    }

    /// A shared server whose administrator `master` is no superuser.
    pub fn rds(role: Role, version: u32) -> Arc<Self> {
        Self::shared(role, version, Flavour::Rds)
    }

    /// A server for one test, which may stop, freeze or kill it. Later settings win.
    pub fn private(version: u32, settings: &[(&str, &str)]) -> Arc<Self> {
        Self::private_with(version, &[], settings)
    }

    /// The same with options of initdb, such as `--locale=C.UTF-8` or `--encoding=LATIN1`.
    pub fn private_with(version: u32, initdb: &[&str], settings: &[(&str, &str)]) -> Arc<Self> {
        let cluster = Self::new(version, Flavour::Vanilla, Use::Private, initdb, settings);
        Arc::new(cluster)
    }

    /// The same without a superuser for its administrator.
    pub fn private_rds(version: u32, settings: &[(&str, &str)]) -> Arc<Self> {
        let cluster = Self::new(version, Flavour::Rds, Use::Private, &[], settings);
        Arc::new(cluster)
    }

    fn shared(role: Role, version: u32, flavour: Flavour) -> Arc<Self> {
        type Key = (Role, u32, Flavour);
        type Slot = Arc<OnceLock<Arc<Cluster>>>;
        static SHARED: Mutex<Option<HashMap<Key, Slot>>> = Mutex::new(None);
        // Servers of different versions start side by side: the map is not locked meanwhile.
        let slot = {
            let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
            let shared = shared.get_or_insert_default();
            Arc::clone(shared.entry((role, version, flavour)).or_default())
        };
        let start = || Arc::new(Self::new(version, flavour, Use::Shared, &[], &[]));
        Arc::clone(slot.get_or_init(start))
    }

    fn new(
        version: u32,
        flavour: Flavour,
        used: Use,
        initdb: &[&str],
        settings: &[(&str, &str)],
    ) -> Self {
        let mut cluster = Self {
            version,
            flavour,
            used,
            programs: Programs::of(version),
            home: run::subdir(&version.to_string()),
            port: 0,
            postmaster: Mutex::new(None),
        };
        cluster.furnish(initdb, settings);
        cluster.launch_on_a_free_port();
        if flavour == Flavour::Rds {
            rds::create_roles(&cluster);
        }
        cluster
    }

    fn postmaster(&self) -> MutexGuard<'_, Option<Child>> {
        self.postmaster
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The process that all others of this server are children of.
    pub fn postmaster_pid(&self) -> u32 {
        let child = self.postmaster();
        child.as_ref().expect("the server is not running").id()
    }

    pub fn version(&self) -> u32 {
        self.version
    }

    pub fn flavour(&self) -> Flavour {
        self.flavour
    }

    pub fn is_private(&self) -> bool {
        self.used == Use::Private
    }

    /// One of the server's programs in that directory, as its user.
    pub fn program(&self, program: &str, dir: &std::path::Path) -> std::process::Command {
        self.programs.command(program, dir)
    }

    pub fn host(&self) -> &'static str {
        "127.0.0.1"
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn data_dir(&self) -> PathBuf {
        self.home.join("data")
    }

    /// Who owns the server and may do anything.
    pub fn superuser(&self) -> &'static str {
        match self.flavour {
            Flavour::Vanilla => "postgres",
            Flavour::Rds => rds::SUPERUSER,
        }
    }

    /// Who flare connects as: the superuser, but on RDS. The password is `PASSWORD`.
    pub fn admin(&self) -> &'static str {
        match self.flavour {
            Flavour::Vanilla => "postgres",
            Flavour::Rds => rds::MASTER,
        }
    }
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { version, port, .. } = self;
        write!(f, "server {version} ({:?}) on port {port}", self.flavour)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.shut_down(libc::SIGQUIT);
        let _ = fs::remove_dir_all(&self.home);
    }
}
