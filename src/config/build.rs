//! From YAML's events to the tree: aliases and merge keys are resolved here, what is no YAML is reported.
//! Messages name no values: a value may be a password.

use std::collections::HashMap;
use std::rc::Rc;

use saphyr_parser::{Event, Parser, ScalarStyle, Span, Tag};

use super::source::Source;
use super::tree::{Entry, Node, Value};

/// Deeper nesting, aliases included, is refused: the tree is walked and dropped recursively.
const MAX_DEPTH: usize = 64;

/// Reads a document; what is no YAML is recorded in `source`. `None` when there is nothing in it.
pub(super) fn read(text: &str, source: &Source) -> Option<Rc<Node>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut builder = Builder {
        source,
        open: Vec::new(),
        anchors: HashMap::new(),
        root: None,
        documents: 0,
    };
    let mut parser = Parser::new_from_str(text);
    while let Some(event) = parser.next_event() {
        let fed = event
            .map_err(|error| {
                let mark = error.marker();
                (mark.line().max(1), mark.col() + 1, wording(error.info()))
            })
            .and_then(|(event, span)| builder.feed(event, span));
        if let Err((line, column, what)) = fed {
            source.syntax(line, column, what);
            builder.close_all();
            break;
        }
    }
    builder.root
}

/// The parser's words, made plain where people meet them.
fn wording(info: &str) -> String {
    match info {
        "simple key expected ':'" | "simple key expect ':'" => {
            "a key before this place lacks its colon".into()
        }
        _ => info.to_owned(),
    }
}

type Syntax = (usize, usize, String);

/// A collection whose end has not been seen.
struct Open {
    anchor: usize,
    line: usize,
    content: Content,
}

enum Content {
    List(Vec<Rc<Node>>),
    Map {
        entries: Vec<Entry>,
        merged: Vec<Rc<Node>>,
        key: Option<Key>,
    },
}

enum Key {
    Named(String, usize),
    Merge,
    Unusable,
}

struct Builder<'s> {
    source: &'s Source,
    open: Vec<Open>,
    anchors: HashMap<usize, Rc<Node>>,
    root: Option<Rc<Node>>,
    documents: usize,
}

impl Builder<'_> {
    fn feed(&mut self, event: Event<'_>, span: Span) -> Result<(), Syntax> {
        let (line, column) = (span.start.line().max(1), span.start.col() + 1);
        let wrong = |what: &str| Err((line, column, what.to_owned()));
        match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
            Event::DocumentStart(_) => {
                self.documents += 1;
                if self.documents > 1 {
                    return wrong("a second document starts here; one is expected");
                }
            }
            Event::Scalar(text, style, anchor, tag) => {
                if !understood(tag.as_deref()) {
                    return wrong(TAGGED);
                }
                let plain = style == ScalarStyle::Plain && tag.is_none();
                if plain && text == "<<" && self.key_is_next() {
                    self.set_key(Key::Merge);
                    return Ok(());
                }
                let value = match text.as_ref() {
                    "" | "~" | "null" | "Null" | "NULL" if plain => Value::Null,
                    text => Value::Text(text.to_owned()),
                };
                self.add(anchor, Rc::new(Node::new(line, value)))?;
            }
            Event::SequenceStart(anchor, tag) => {
                self.start(
                    anchor,
                    tag.as_deref(),
                    Content::List(Vec::new()),
                    line,
                    column,
                )?;
            }
            Event::MappingStart(anchor, tag) => {
                let content = Content::Map {
                    entries: Vec::new(),
                    merged: Vec::new(),
                    key: None,
                };
                self.start(anchor, tag.as_deref(), content, line, column)?;
            }
            Event::SequenceEnd | Event::MappingEnd => self.close()?,
            Event::Alias(anchor) => match self.anchors.get(&anchor).cloned() {
                Some(node) => self.add(0, node)?,
                None => return wrong("an alias stands inside its own anchor"),
            },
        }
        Ok(())
    }

    fn start(
        &mut self,
        anchor: usize,
        tag: Option<&Tag>,
        content: Content,
        line: usize,
        column: usize,
    ) -> Result<(), Syntax> {
        if !understood(tag) {
            return Err((line, column, TAGGED.to_owned()));
        }
        if self.open.len() >= MAX_DEPTH {
            return Err((line, column, TOO_DEEP.to_owned()));
        }
        self.open.push(Open {
            anchor,
            line,
            content,
        });
        Ok(())
    }

    fn key_is_next(&self) -> bool {
        matches!(
            self.open.last(),
            Some(Open {
                content: Content::Map { key: None, .. },
                ..
            })
        )
    }

    fn set_key(&mut self, next: Key) {
        if let Some(Open {
            content: Content::Map { key, .. },
            ..
        }) = self.open.last_mut()
        {
            *key = Some(next);
        }
    }

    /// Puts a finished node where it belongs: it is the key, the value or the item that comes next.
    fn add(&mut self, anchor: usize, node: Rc<Node>) -> Result<(), Syntax> {
        if node.depth > MAX_DEPTH {
            return Err((node.line, 1, TOO_DEEP.to_owned()));
        }
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        if self.key_is_next() {
            let key = match &node.value {
                Value::Text(text) => Key::Named(text.clone(), node.line),
                Value::Null | Value::List(_) | Value::Map(_) => {
                    self.source.problem(node.line, "a key has to be text");
                    Key::Unusable
                }
            };
            self.set_key(key);
            return Ok(());
        }
        match self.open.last_mut().map(|open| &mut open.content) {
            None => self.root = Some(node),
            Some(Content::List(items)) => items.push(node),
            Some(Content::Map {
                entries,
                merged,
                key,
            }) => match key.take() {
                Some(Key::Named(key, line)) => {
                    match entries.iter().find(|entry| entry.key == key) {
                        Some(first) => self.source.problem(
                            line,
                            format!("duplicate key {key:?} (first on line {})", first.line),
                        ),
                        None => entries.push(Entry {
                            key,
                            line,
                            value: node,
                        }),
                    }
                }
                Some(Key::Merge) => merged.push(node),
                Some(Key::Unusable) | None => {}
            },
        }
        Ok(())
    }

    fn close(&mut self) -> Result<(), Syntax> {
        let Some(open) = self.open.pop() else {
            return Ok(());
        };
        let value = match open.content {
            Content::List(items) => Value::List(items),
            Content::Map {
                mut entries,
                merged,
                ..
            } => {
                for node in merged {
                    self.merge(&mut entries, &node);
                }
                Value::Map(entries)
            }
        };
        self.add(open.anchor, Rc::new(Node::new(open.line, value)))
    }

    /// Adds the entries of `<<: node` that the mapping has not itself; of several mappings, the first wins.
    fn merge(&self, entries: &mut Vec<Entry>, node: &Node) {
        match &node.value {
            Value::Map(more) => {
                for entry in more {
                    if !entries.iter().any(|own| own.key == entry.key) {
                        entries.push(entry.clone());
                    }
                }
            }
            Value::List(nodes) if nodes.iter().all(|node| matches!(node.value, Value::Map(_))) => {
                for node in nodes {
                    self.merge(entries, node);
                }
            }
            _ => self.source.problem(
                node.line,
                "<< has to be followed by a mapping or a list of mappings",
            ),
        }
    }

    /// Ends what is still open, so that the part before a syntax error can be checked as well.
    fn close_all(&mut self) {
        while !self.open.is_empty() {
            if self.close().is_err() {
                break;
            }
        }
    }
}

const TAGGED: &str = "a value that begins with ! is a YAML tag, which is not understood here; text that begins with ! needs quotes";
const TOO_DEEP: &str = "this is nested too deeply";

/// YAML's own tags say nothing that is needed: every scalar is read as text.
fn understood(tag: Option<&Tag>) -> bool {
    tag.is_none_or(Tag::is_yaml_core_schema)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::path::Path;

    /// The tree on one line, and the problems.
    fn seen(text: &str) -> (String, Option<String>) {
        let source = Source::new(Path::new("f"));
        let tree = read(text, &source);
        let shown = tree.map_or("nothing".into(), |tree| shown(&tree));
        (shown, source.error().map(|error| error.to_string()))
    }

    fn shown(node: &Node) -> String {
        let all = |parts: Vec<String>| parts.join(" ");
        match &node.value {
            Value::Null => "null".into(),
            Value::Text(text) => format!("{text:?}"),
            Value::List(items) => {
                format!("[{}]", all(items.iter().map(|item| shown(item)).collect()))
            }
            Value::Map(entries) => format!(
                "{{{}}}",
                all(entries
                    .iter()
                    .map(|entry| format!("{}@{}={}", entry.key, entry.line, shown(&entry.value)))
                    .collect())
            ),
        }
    }

    #[test]
    fn scalars_keep_their_text_and_keys_their_lines() {
        let (tree, problems) =
            seen("a: 0123\nb: 1.10\r\nc: on\nd:\ne: ''\n'f': [~, \"~\", !!str 5]\n");
        assert_eq!(problems, None);
        assert_eq!(
            tree,
            r#"{a@1="0123" b@2="1.10" c@3="on" d@4=null e@5="" f@6=[null "~" "5"]}"#
        );
        assert_eq!(seen("\u{feff}a: 1").0, r#"{a@1="1"}"#);
        assert_eq!(seen("# nothing\n").0, "nothing");
    }

    #[test]
    fn merge_keys_add_what_is_not_there() {
        let text = "base: &b {x: 1, y: 2}\nmore: &m {y: 3, z: 4}\none:\n  <<: *b\n  y: 9\ntwo: {<<: [*b, *m]}\n";
        let (tree, problems) = seen(text);
        assert_eq!(problems, None);
        assert!(tree.contains(r#"one@3={y@5="9" x@1="1"}"#), "{tree}");
        assert!(
            tree.contains(r#"two@6={x@1="1" y@1="2" z@2="4"}"#),
            "{tree}"
        );
        assert!(seen("a: {<<: text}").1.unwrap().contains("f:1: <<"));
    }

    #[test]
    fn what_is_wrong_is_placed_and_never_quoted() {
        let (tree, problems) = seen("a: 1\nb: 2\na: 3\n");
        assert_eq!(tree, r#"{a@1="1" b@2="2"}"#);
        assert_eq!(
            problems.unwrap(),
            r#"f:3: duplicate key "a" (first on line 1)"#
        );
        for (text, place) in [
            ("a: 'open\n", "f:"),
            ("a: 1\n  b: 2\n", "f:2:"),
            ("a: !hunter2\n", "f:1:4: a value that begins with !"),
            ("a: *hunter2\n", "f:1:4: "),
            ("a: &x [*x]\n", "f:1:8: an alias"),
            ("a: 1\n---\nb: 1\n", "f:2:1: a second"),
            ("[1]: 2", "f:1: a key has"),
        ] {
            let problem = seen(text).1.unwrap_or_else(|| panic!("{text:?} was read"));
            assert!(problem.starts_with(place), "{text:?}: {problem}");
            assert!(!problem.contains("hunter2"), "{problem}");
        }
    }

    proptest! {
        #[test]
        fn what_serde_yaml_writes_is_read(
            written in proptest::collection::btree_map("[a-z]{1,3}", ".{0,12}|[0-9.~]{1,4}|null|on|- a", 1..6),
        ) {
            let source = Source::new(Path::new("f"));
            let tree = read(&serde_yaml::to_string(&written).unwrap(), &source).unwrap();
            prop_assert!(source.error().is_none());
            for (key, text) in &written {
                let found = &tree.entry(key).unwrap().value.value;
                prop_assert!(matches!(found, Value::Text(found) if found == text), "{text:?}");
            }
        }
    }

    #[test]
    fn depth_is_bounded_through_aliases_too() {
        let nested = "- ".repeat(10_000);
        assert!(seen(&"[".repeat(100_000)).1.is_some());
        assert!(seen(&nested).1.unwrap().contains("deep"));
        let chain: String = (1..1000)
            .map(|n| format!("k{n}: &a{n} [*a{}]\n", n - 1))
            .collect();
        assert!(
            seen(&format!("k0: &a0 x\n{chain}"))
                .1
                .unwrap()
                .contains("deep")
        );
    }
}
