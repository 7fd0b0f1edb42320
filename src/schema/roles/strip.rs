//! `--strip-options-for-rds` on a dump that is only printed: nothing is known of the server it will go to.

use std::io::{BufRead, Write};

use crate::error::Result;

use super::super::statement::{Kind, Statements};
use super::super::tokens::Tokens;
use super::MaySet;
use super::read::{Attribute, RoleStatement};

/// Takes SUPERUSER, REPLICATION and BYPASSRLS (and their NO forms) out of ALTER ROLE, and GRANTED BY out of GRANT;
/// everything else stays as pg_dumpall wrote it.
pub(crate) fn strip_role_options_for_rds(
    input: impl BufRead,
    output: &mut impl Write,
) -> Result<()> {
    for item in Statements::new(input) {
        let item = item?;
        let tokens = match item.kind {
            Kind::Statement => Tokens::of(&item.text),
            _ => Tokens::of(b""),
        };
        match RoleStatement::read(&tokens) {
            RoleStatement::Alter { attributes, .. } => {
                let kept = MaySet::OF_MANAGED_SERVERS.permitted(&attributes);
                write_role(output, "ALTER", tokens.raw(2), &kept)?;
            }
            RoleStatement::Grant(grant) if grant.grantor.is_some() => {
                let by = tokens.find("GRANTED BY").unwrap_or(tokens.len());
                output.write_all(tokens.between(0, by - 1))?;
                output.write_all(b";\n")?;
            }
            _ => output.write_all(&item.text)?,
        }
    }
    Ok(())
}

/// Writes `CREATE | ALTER ROLE name WITH ...;`, or nothing for an ALTER that alters nothing.
pub(super) fn write_role(
    output: &mut impl Write,
    verb: &str,
    raw_role: &[u8],
    attributes: &[&Attribute],
) -> std::io::Result<()> {
    if verb == "ALTER" && attributes.is_empty() {
        return Ok(());
    }
    write!(output, "{verb} ROLE ")?;
    output.write_all(raw_role)?;
    if !attributes.is_empty() {
        output.write_all(b" WITH")?;
    }
    for attribute in attributes {
        output.write_all(b" ")?;
        output.write_all(attribute.raw)?;
    }
    output.write_all(b";\n")
}
