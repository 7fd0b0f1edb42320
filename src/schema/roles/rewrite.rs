//! The rewriting itself, statement by statement.

use std::collections::BTreeSet;
use std::io::{self, BufRead, Write};

use crate::error::Result;

use super::super::statement::{Item, Kind, Statements};
use super::super::tokens::Tokens;
use super::grants::{Known, Membership};
use super::read::{Attribute, Grant, RoleStatement};
use super::strip::write_role;
use super::{Executor, Restrict, RolesReport, RolesTarget, Setting};
use crate::value::Literal;

/// Rewrites `pg_dumpall --roles-only` for the subscriber. The output holds password hashes when the input does.
pub(crate) fn rewrite_roles(
    input: impl BufRead,
    output: &mut impl Write,
    target: &RolesTarget,
) -> Result<RolesReport> {
    let mut rewriter = Rewriter {
        output,
        target,
        pending: None,
        created: BTreeSet::new(),
        admins: BTreeSet::new(),
        report: RolesReport::default(),
    };
    for item in Statements::new(input) {
        rewriter.item(&item?)?;
    }
    rewriter.flush()?;
    Ok(rewriter.report)
}

struct Rewriter<'a, W> {
    output: &'a mut W,
    target: &'a RolesTarget<'a>,
    /// A role whose CREATE waits for its ALTER: without superuser both have to be one statement.
    pending: Option<(String, Vec<u8>)>,
    created: BTreeSet<String>,
    admins: BTreeSet<(String, String)>,
    report: RolesReport,
}

impl<W: Write> Rewriter<'_, W> {
    fn item(&mut self, item: &Item) -> io::Result<()> {
        match item.kind {
            Kind::Comment => self.output.write_all(&item.text),
            Kind::Backslash if self.target.restrict == Restrict::Remove => {
                self.drop(item, "this psql does not know it");
                Ok(())
            }
            Kind::Backslash => self.output.write_all(&item.text),
            Kind::Statement => self.statement(item),
        }
    }

    fn drop(&self, item: &Item, why: &str) {
        log::debug!(
            "leave out line {}, {}: {why}",
            item.first_line,
            item.summary()
        );
    }

    fn note(&mut self, item: &Item, note: String) {
        self.drop(item, &note);
        self.report.notes.push(note);
    }

    fn statement(&mut self, item: &Item) -> io::Result<()> {
        let tokens = Tokens::of(&item.text);
        match RoleStatement::read(&tokens) {
            RoleStatement::Create { role, attributes } => {
                self.flush()?;
                self.create(item, &tokens, role, &attributes)
            }
            RoleStatement::Alter { role, attributes } => {
                self.alter(item, &tokens, &role, &attributes)
            }
            RoleStatement::Set { role, parameter } => {
                self.flush()?;
                self.set(item, &role, &parameter)
            }
            RoleStatement::Comment { role } => {
                self.flush()?;
                if self.is_out_of_bounds(&role) {
                    self.drop(item, "the role is left alone")
                } else {
                    self.output.write_all(&item.text)?
                }
                Ok(())
            }
            RoleStatement::SecurityLabel { role } | RoleStatement::ParameterGrant { role } => {
                self.flush()?;
                self.superusers(item, &role)
            }
            RoleStatement::Grant(grant) => {
                self.flush()?;
                self.grant(item, &grant)
            }
            RoleStatement::Other => {
                self.flush()?;
                self.output.write_all(&item.text)
            }
        }
    }

    /// A role that nothing is written about.
    fn is_out_of_bounds(&self, role: &str) -> bool {
        self.target.is_platform(role) || self.target.is_beyond_reach(role)
    }

    fn create(
        &mut self,
        item: &Item,
        tokens: &Tokens,
        role: String,
        attributes: &[Attribute],
    ) -> io::Result<()> {
        let exists = self.target.roles.contains_key(&role);
        if self.target.is_platform(&role) || self.target.connects_as(&role) {
            if !exists && self.target.bootstrap.contains(&role) {
                let note = format!(
                    "the bootstrap superuser {role:?} does not exist on the subscriber and is not created: \
                     objects it owns need another owner"
                );
                self.report.notes.push(note);
            }
            self.report.left_alone.push(role);
            self.drop(item, "the role is left alone");
        } else if exists {
            let beyond = self.target.is_beyond_reach(&role);
            if beyond {
                let note = format!("role {role:?} exists and may not be altered: left as it is");
                self.report.notes.push(note);
            }
            self.drop(item, "the role exists");
            if beyond {
                self.report.left_alone.push(role)
            } else {
                self.report.updated.push(role)
            }
        } else {
            self.report.created.push(role.clone());
            self.created.insert(role.clone());
            match (self.target.is_restricted(), attributes.is_empty()) {
                (true, true) => self.pending = Some((role, tokens.raw(2).to_vec())),
                (true, false) => self.restricted(&role, tokens.raw(2), attributes)?,
                (false, _) => self.output.write_all(&item.text)?,
            }
        }
        Ok(())
    }

    fn alter(
        &mut self,
        item: &Item,
        tokens: &Tokens,
        role: &str,
        attributes: &[Attribute],
    ) -> io::Result<()> {
        let pending = self.pending.take_if(|(name, _)| name == role);
        self.flush()?;
        if self.is_out_of_bounds(role) || self.target.connects_as(role) {
            self.drop(item, "the role is left alone");
            return Ok(());
        }
        match pending {
            Some((_, raw_role)) => return self.restricted(role, &raw_role, attributes),
            None if !self.target.is_restricted() => self.output.write_all(&item.text)?,
            None => {
                let kept = self.target.may_set.permitted(attributes);
                write_role(self.output, "ALTER", tokens.raw(2), &kept)?;
                self.lost(role, tokens.raw(2), attributes)?;
            }
        }
        self.password(role, tokens.raw(2), attributes)
    }

    /// CREATE ROLE with the attributes that an administrator may give.
    fn restricted(&mut self, role: &str, raw: &[u8], attributes: &[Attribute]) -> io::Result<()> {
        let kept = self.target.may_set.permitted(attributes);
        write_role(self.output, "CREATE", raw, &kept)?;
        self.password(role, raw, attributes)?;
        self.lost(role, raw, attributes)
    }

    fn password(&mut self, role: &str, raw: &[u8], attributes: &[Attribute]) -> io::Result<()> {
        let has = |word: &str| attributes.iter().any(|attribute| attribute.word == word);
        if !has("LOGIN") || has("PASSWORD") || !self.created.contains(role) {
            return Ok(());
        }
        let Some(verifier) = (self.target.verifier)(role) else {
            self.report.need_password.push(role.to_owned());
            return Ok(());
        };
        self.report.of_configuration.push(role.to_owned());
        self.output.write_all(b"ALTER ROLE ")?;
        self.output.write_all(raw)?;
        writeln!(self.output, " PASSWORD {};", Literal(&verifier))
    }

    /// Says which rights were not carried over; REPLICATION has a substitute on Amazon RDS.
    fn lost(&mut self, role: &str, raw: &[u8], attributes: &[Attribute]) -> io::Result<()> {
        const RDS_REPLICATION: &str = "rds_replication";
        for attribute in attributes {
            let word = attribute.word.as_str();
            if self.target.may_set.attribute(word) {
                continue;
            }
            let substitute = word == "REPLICATION"
                && self.target.roles.contains_key(RDS_REPLICATION)
                && !self.target.is_beyond_reach(RDS_REPLICATION);
            match word {
                "REPLICATION" if substitute => {
                    let sql = [b"GRANT rds_replication TO ", raw, b";\n"].concat();
                    self.output.write_all(&sql)?;
                    let note = format!(
                        "role {role:?} is a member of rds_replication instead of REPLICATION"
                    );
                    self.report.notes.push(note);
                }
                "SUPERUSER" | "REPLICATION" | "BYPASSRLS" | "CREATEDB" => {
                    self.report.notes.push(format!(
                        "role {role:?} has {word} on the publisher, which cannot be given here"
                    ));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn set(&mut self, item: &Item, role: &str, parameter: &str) -> io::Result<()> {
        if self.is_out_of_bounds(role) {
            self.drop(item, "the role is left alone");
            return Ok(());
        }
        let why = match (self.target.setting)(role, parameter) {
            Setting::Settable => return self.output.write_all(&item.text),
            Setting::NotPermitted => "needs more rights than there are on the subscriber",
            Setting::Unknown => "does not exist on the subscriber",
            Setting::Refused => "has a value that the subscriber does not take",
        };
        self.note(item, format!("setting {parameter} of role {role:?} {why}"));
        Ok(())
    }

    /// Statements that only a superuser may run.
    fn superusers(&mut self, item: &Item, role: &str) -> io::Result<()> {
        if self.is_out_of_bounds(role) {
            self.drop(item, "the role is left alone");
            return Ok(());
        }
        match self.target.executor {
            Executor::Superuser => self.output.write_all(&item.text),
            Executor::Administrator => {
                self.note(item, format!("needs superuser: {}", item.summary()));
                Ok(())
            }
        }
    }

    fn grant(&mut self, item: &Item, grant: &Grant) -> io::Result<()> {
        let known = Known {
            target: self.target,
            created: &self.created,
            admins: &self.admins,
        };
        match known.membership(grant) {
            Membership::Granted(sql, note) => {
                self.output.write_all(&sql)?;
                self.report.notes.extend(note);
                if grant.admin {
                    let pair = (grant.role.clone(), grant.member.clone());
                    self.admins.insert(pair);
                }
            }
            Membership::LeftOut => self.drop(item, "the member is left alone"),
            Membership::Refused(why) => self.note(item, why),
        }
        Ok(())
    }

    /// A CREATE that no ALTER followed.
    fn flush(&mut self) -> io::Result<()> {
        match self.pending.take() {
            Some((_, raw)) => write_role(self.output, "CREATE", &raw, &[]),
            None => Ok(()),
        }
    }
}
