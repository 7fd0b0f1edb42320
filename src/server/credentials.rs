//! Which account logs in. Passwords are read from their source once per run; tokens from a command are asked for again when a login fails.

use std::sync::Mutex;

use serde::Serialize;

use crate::config::{Account, PasswordSource};
use crate::error::{Result, WrapErr};
use crate::value::Secret;

/// Which of a host's accounts logs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Login {
    /// `superuser`: an administrator, on RDS the master user.
    Superuser,
    /// `db_owner`.
    DbOwner,
    /// `repl_user`.
    Replication,
}

impl Login {
    /// The database's owner when a flag says so, else the superuser.
    pub(crate) fn owner_if(owner: bool) -> Login {
        if owner {
            Login::DbOwner
        } else {
            Login::Superuser
        }
    }
}

/// An account with the password as it was last read.
#[derive(Debug)]
pub(crate) struct Credentials {
    account: Account,
    password: Mutex<Option<Secret>>,
}

impl Credentials {
    pub(crate) fn of(account: &Account) -> Self {
        Credentials {
            account: account.clone(),
            password: Mutex::new(None),
        }
    }

    /// An account whose password is known already.
    pub(crate) fn known(user: &str, password: Secret) -> Self {
        Credentials::of(&Account {
            user: user.to_owned(),
            password: PasswordSource::Plain(password),
        })
    }

    pub(crate) fn user(&self) -> &str {
        &self.account.user
    }

    /// The password, read from its source the first time.
    pub(crate) fn password(&self) -> Result<Secret> {
        let mut kept = self.password.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(password) = &*kept {
            return Ok(password.clone());
        }
        let read = self
            .account
            .password
            .read()
            .wrap_err_with(|| format!("read the password of {:?}", self.account.user))?;
        *kept = Some(read.clone());
        Ok(read)
    }

    /// Forgets the password when its source can give a new one; true when it can.
    pub(crate) fn expired(&self) -> bool {
        let renewable = matches!(self.account.password, PasswordSource::Command(_));
        if renewable {
            *self.password.lock().unwrap_or_else(|e| e.into_inner()) = None;
        }
        renewable
    }
}
