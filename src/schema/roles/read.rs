//! What a statement of pg_dumpall says about roles.

use super::super::lexer::Token;
use super::super::tokens::Tokens;

/// A statement about roles. Names are bare, `raw` parts as written.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum RoleStatement<'a> {
    Create {
        role: String,
        attributes: Vec<Attribute<'a>>,
    },
    Alter {
        role: String,
        attributes: Vec<Attribute<'a>>,
    },
    Set {
        role: String,
        parameter: String,
    },
    Comment {
        role: String,
    },
    SecurityLabel {
        role: String,
    },
    Grant(Grant<'a>),
    ParameterGrant {
        role: String,
    },
    Other,
}

/// An attribute with its value, as written; the value may be a password hash, so `Debug` shows the word alone.
#[derive(PartialEq, Eq)]
pub(super) struct Attribute<'a> {
    pub(super) word: String,
    pub(super) raw: &'a [u8],
}

impl std::fmt::Debug for Attribute<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.word)
    }
}

/// `GRANT role TO member WITH ADMIN OPTION, INHERIT FALSE, SET FALSE GRANTED BY grantor`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Grant<'a> {
    pub(super) role: String,
    pub(super) member: String,
    pub(super) raw_role: &'a [u8],
    pub(super) raw_member: &'a [u8],
    pub(super) admin: bool,
    pub(super) inherit: Option<bool>,
    pub(super) set: Option<bool>,
    /// Bare and as written.
    pub(super) grantor: Option<(String, &'a [u8])>,
}

impl<'a> RoleStatement<'a> {
    pub(super) fn read(tokens: &Tokens<'a>) -> Self {
        RoleStatement::try_read(tokens).unwrap_or(RoleStatement::Other)
    }

    fn try_read(tokens: &Tokens<'a>) -> Option<Self> {
        let role = || tokens.name(2);
        Some(if tokens.start("CREATE ROLE") {
            RoleStatement::Create {
                role: role()?,
                attributes: attributes(tokens),
            }
        } else if tokens.start("ALTER ROLE") && tokens.is(3, "SET") {
            RoleStatement::Set {
                role: role()?,
                parameter: tokens
                    .between(4, tokens.find("TO")? - 1)
                    .iter()
                    .map(|byte| char::from(*byte))
                    .collect::<String>()
                    .replace('"', ""),
            }
        } else if tokens.start("ALTER ROLE") {
            RoleStatement::Alter {
                role: role()?,
                attributes: attributes(tokens),
            }
        } else if tokens.start("COMMENT ON ROLE") {
            RoleStatement::Comment {
                role: tokens.name(3)?,
            }
        } else if tokens.start("SECURITY LABEL") {
            let on = tokens.find("ON ROLE")?;
            RoleStatement::SecurityLabel {
                role: tokens.name(on + 2)?,
            }
        } else if tokens.start("GRANT") && tokens.find("ON PARAMETER").is_some() {
            let to = (0..tokens.len()).rfind(|index| tokens.is(*index, "TO"))?;
            RoleStatement::ParameterGrant {
                role: tokens.name(to + 1)?,
            }
        } else if tokens.start("GRANT") && tokens.is(2, "TO") {
            RoleStatement::Grant(grant(tokens)?)
        } else {
            RoleStatement::Other
        })
    }
}

/// What stands behind the role's name, attribute by attribute.
fn attributes<'a>(tokens: &Tokens<'a>) -> Vec<Attribute<'a>> {
    let mut found = Vec::new();
    let mut at = 3 + usize::from(tokens.is(3, "WITH"));
    while at < tokens.len() && !tokens.is(at, ";") {
        let length = if tokens.is(at, "CONNECTION") {
            // CONNECTION LIMIT -1 has a sign of its own.
            3 + usize::from(tokens.is(at + 2, "-"))
        } else if tokens.is(at, "VALID") {
            3
        } else if tokens.is(at, "PASSWORD") {
            2
        } else {
            1
        };
        let word = String::from_utf8_lossy(tokens.raw(at)).to_uppercase();
        let raw = tokens.between(at, at + length - 1);
        found.push(Attribute { word, raw });
        at += length;
    }
    found
}

fn grant<'a>(tokens: &Tokens<'a>) -> Option<Grant<'a>> {
    // Behind the member's name, which may be one of these words.
    let option = |word: &str| {
        let at = (4..tokens.len()).find(|index| tokens.is(*index, word))?;
        Some(tokens.is(at + 1, "TRUE") || tokens.is(at + 1, "OPTION"))
    };
    let by = tokens.find("GRANTED BY");
    let name = |index: usize| match tokens.kind(index) {
        Some(Token::ShellWord | Token::Quoted) => tokens.name(index),
        _ => None,
    };
    Some(Grant {
        role: name(1)?,
        member: name(3)?,
        raw_role: tokens.raw(1),
        raw_member: tokens.raw(3),
        admin: option("ADMIN").unwrap_or(false),
        inherit: option("INHERIT"),
        set: option("SET"),
        grantor: by.and_then(|at| Some((name(at + 2)?, tokens.raw(at + 2)))),
    })
}
