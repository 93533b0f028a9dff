use std::collections::BTreeMap;

use serde_json::Value;
use toml::Spanned;
use toml::de::DeValue;

use super::reader::{Node, Reader};
use super::words;
use crate::command::{CommandItem, Condition, EachGroup, WhenGroup};

/// An item of `command`, with the places of its parts.
pub(super) enum RawItem {
    Argument(Spanned<String>),
    Group(RawGroup),
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawGroup {
    when: Option<Spanned<RawCondition>>,
    pub(super) each: Option<Spanned<String>>,
    pub(super) args: Vec<Spanned<String>>,
}

#[derive(serde::Deserialize)]
#[serde(
    untagged,
    expecting = "a parameter's name, or a table from names to values, is expected here"
)]
enum RawCondition {
    Set(String),
    Equal(BTreeMap<String, Value>),
}

impl RawGroup {
    /// The parameters that its condition names.
    pub(super) fn names(&self) -> Vec<Spanned<String>> {
        let Some(when) = &self.when else {
            return Vec::new();
        };
        let at = |name: &String| Spanned::new(when.span(), name.clone());
        match when.get_ref() {
            RawCondition::Set(name) => vec![at(name)],
            RawCondition::Equal(wanted) => wanted.keys().map(at).collect(),
        }
    }

    fn item(&self) -> Option<CommandItem> {
        let args = self.args.iter().map(|arg| arg.get_ref().clone()).collect();
        let item = match (&self.when, &self.each) {
            (Some(when), None) => CommandItem::When(WhenGroup {
                when: match when.get_ref() {
                    RawCondition::Set(name) => Condition::Set(name.clone()),
                    RawCondition::Equal(wanted) => Condition::Equal(wanted.clone()),
                },
                args,
            }),
            (None, Some(each)) => CommandItem::Each(EachGroup {
                each: each.get_ref().clone(),
                args,
            }),
            _ => return None,
        };
        Some(item)
    }
}

impl RawItem {
    /// None for a group that is neither `when` nor `each`, which was told when it was read.
    pub(super) fn item(&self) -> Option<CommandItem> {
        match self {
            Self::Argument(text) => Some(CommandItem::Argument(text.get_ref().clone())),
            Self::Group(group) => group.item(),
        }
    }
}

impl<'i> Reader<'i> {
    /// The items of `command` by themselves, so that a mistake in one doesn't hide those in others; none for an item that
    /// can't be read.
    pub(super) fn items(&mut self, node: &Node<'i>) -> Vec<Option<RawItem>> {
        let Some(items) = node.get_ref().as_array() else {
            let message = words::expected("a list", Some(node.get_ref()));
            let hint = "a program and its arguments, each a text of its own, such as [\"blastp\", \"-query\", \"{query}\"]";
            self.error(node.span().start, message, Some(hint.to_owned()));
            return Vec::new();
        };
        items.iter().map(|node| self.item(node)).collect()
    }

    fn item(&mut self, node: &Node<'i>) -> Option<RawItem> {
        match node.get_ref() {
            DeValue::String(text) => {
                let text = Spanned::new(node.span(), text.to_string());
                Some(RawItem::Argument(text))
            }
            DeValue::Table(_) => {
                let group: RawGroup = self.read(node)?;
                if group.item().is_none() {
                    let message = "a group of arguments has either `when` or `each`";
                    self.error(node.span().start, message, None);
                }
                Some(RawItem::Group(group))
            }
            other => {
                let wanted = "a text, or a table with `when` or `each`, and `args`,";
                let message = words::expected(wanted, Some(other));
                self.error(node.span().start, message, None);
                None
            }
        }
    }
}
