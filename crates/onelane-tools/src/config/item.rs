use std::collections::BTreeMap;
use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde_json::Value;
use toml::Spanned;

use crate::command::{CommandItem, Condition, EachGroup, WhenGroup};

/// An item of `command`, with the places of its parts.
pub(super) enum RawItem {
    Argument(String),
    When {
        condition: Condition,
        names: Vec<Spanned<String>>,
        args: Vec<Spanned<String>>,
    },
    Each {
        each: Spanned<String>,
        args: Vec<Spanned<String>>,
    },
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct RawGroup {
    when: Option<Spanned<RawCondition>>,
    each: Option<Spanned<String>>,
    args: Vec<Spanned<String>>,
}

#[derive(serde::Deserialize)]
#[serde(untagged)]
enum RawCondition {
    Set(String),
    Equal(BTreeMap<String, Value>),
}

impl RawItem {
    pub(super) fn item(&self) -> CommandItem {
        let texts =
            |args: &[Spanned<String>]| args.iter().map(|arg| arg.get_ref().clone()).collect();
        match self {
            Self::Argument(text) => CommandItem::Argument(text.clone()),
            Self::When {
                condition, args, ..
            } => CommandItem::When(WhenGroup {
                when: condition.clone(),
                args: texts(args),
            }),
            Self::Each { each, args } => CommandItem::Each(EachGroup {
                each: each.get_ref().clone(),
                args: texts(args),
            }),
        }
    }
}

impl<'de> Deserialize<'de> for RawItem {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ItemVisitor)
    }
}

struct ItemVisitor;

impl<'de> Visitor<'de> for ItemVisitor {
    type Value = RawItem;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text, or a table with `when` or `each`, and `args`")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<RawItem, E> {
        Ok(RawItem::Argument(text.to_owned()))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RawItem, A::Error> {
        let group = RawGroup::deserialize(MapAccessDeserializer::new(map))?;
        match (group.when, group.each) {
            (Some(when), None) => Ok(conditional(when, group.args)),
            (None, Some(each)) => Ok(RawItem::Each {
                each,
                args: group.args,
            }),
            _ => Err(A::Error::custom(
                "a group of arguments has either `when` or `each`",
            )),
        }
    }
}

fn conditional(when: Spanned<RawCondition>, args: Vec<Spanned<String>>) -> RawItem {
    let place = when.span();
    let at = |name: &String| Spanned::new(place.clone(), name.clone());
    let (names, condition) = match when.into_inner() {
        RawCondition::Set(name) => (vec![at(&name)], Condition::Set(name)),
        RawCondition::Equal(wanted) => (wanted.keys().map(at).collect(), Condition::Equal(wanted)),
    };
    RawItem::When {
        condition,
        names,
        args,
    }
}
