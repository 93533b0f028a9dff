//! From accepted parameters to a command line. No shell, and no value is ever looked at for placeholders.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::definition::{Places, ToolDefinition};
use crate::param::Param;
use crate::template::{self, Piece};

/// One item of a command: an argument, or a group of arguments that isn't always there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum CommandItem {
    /// One argument, with placeholders.
    Argument(String),
    /// Arguments that are there on a condition.
    When(WhenGroup),
    /// Arguments for each member of a list.
    Each(EachGroup),
}

/// Arguments that are there only when a parameter is set, or has a certain value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WhenGroup {
    /// The condition.
    pub when: Condition,
    /// The arguments, with placeholders.
    pub args: Vec<String>,
}

/// Arguments that are there once for each member of a list parameter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EachGroup {
    /// The list parameter. Its own placeholder stands for one member within the group.
    pub each: String,
    /// The arguments, with placeholders.
    pub args: Vec<String>,
}

/// When a group is there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Condition {
    /// The parameter is given: a flag is yes, a list isn't empty.
    Set(String),
    /// All of these parameters have these values; a list holds it.
    Equal(BTreeMap<String, Value>),
}

impl PartialEq<&str> for CommandItem {
    fn eq(&self, other: &&str) -> bool {
        matches!(self, Self::Argument(argument) if argument == other)
    }
}

impl From<&str> for CommandItem {
    fn from(argument: &str) -> Self {
        Self::Argument(argument.to_owned())
    }
}

impl Condition {
    fn holds(&self, params: &Map<String, Value>) -> bool {
        match self {
            Self::Set(name) => params.get(name).is_some_and(is_set),
            Self::Equal(wanted) => wanted
                .iter()
                .all(|(name, value)| params.get(name).is_some_and(|there| equals(there, value))),
        }
    }
}

fn is_set(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::Array(members) => !members.is_empty(),
        _ => true,
    }
}

fn equals(there: &Value, wanted: &Value) -> bool {
    match there {
        Value::Array(members) => members.iter().any(|member| equals(member, wanted)),
        // The file says 1.0 and the accepted value is 1: one number.
        Value::Number(number) => number.as_f64().is_some() && number.as_f64() == wanted.as_f64(),
        other => other == wanted,
    }
}

/// What a tool reads on its standard input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stdin {
    /// A parameter's file.
    File(PathBuf),
    /// Text.
    Text(String),
}

/// What the placeholders are filled from.
#[derive(Clone, Copy)]
struct Filling<'a> {
    params: &'a Map<String, Value>,
    places: &'a Places<'a>,
    /// Within an `each` group: the list's name, and the member in hand.
    member: Option<(&'a str, &'a str)>,
}

impl ToolDefinition {
    /// The program and its arguments for accepted parameters.
    ///
    /// Each argument of the tools file becomes exactly one argument. Left out is one that mentions an optional
    /// parameter that wasn't given, and one that is just a flag with an `argument` of its own, not set.
    pub fn command_line(
        &self,
        params: &Map<String, Value>,
        places: &Places<'_>,
    ) -> Result<Vec<String>, String> {
        let filling = Filling {
            params,
            places,
            member: None,
        };
        let mut line = Vec::with_capacity(self.command.len());
        for item in &self.command {
            self.push_item(&mut line, item, filling)?;
        }
        if line.is_empty() {
            return Err(format!("tool `{}` has no program to run", self.name));
        }
        Ok(line)
    }

    /// What the tool reads on its standard input, if anything.
    pub fn stdin_for(
        &self,
        params: &Map<String, Value>,
        places: &Places<'_>,
    ) -> Result<Option<Stdin>, String> {
        let Some(template) = &self.stdin else {
            return Ok(None);
        };
        let filling = Filling {
            params,
            places,
            member: None,
        };
        let pieces = template::parse(template)?;
        let is_file = template::alone(&pieces).and_then(|name| self.params.get(name));
        let is_file = is_file.is_some_and(Param::is_file);
        let text = self.text_of(&pieces, filling)?;
        Ok(text.map(|text| {
            if is_file {
                Stdin::File(PathBuf::from(text))
            } else {
                Stdin::Text(text)
            }
        }))
    }

    fn push_item(
        &self,
        line: &mut Vec<String>,
        item: &CommandItem,
        filling: Filling<'_>,
    ) -> Result<(), String> {
        match item {
            CommandItem::Argument(argument) => line.extend(self.argument(argument, filling)?),
            CommandItem::When(group) if !group.when.holds(filling.params) => {}
            CommandItem::When(group) => self.push_all(line, &group.args, filling)?,
            CommandItem::Each(group) => {
                for member in self.members(&group.each, filling)? {
                    let member = Some((group.each.as_str(), member.as_str()));
                    self.push_all(line, &group.args, Filling { member, ..filling })?;
                }
            }
        }
        Ok(())
    }

    fn push_all(
        &self,
        line: &mut Vec<String>,
        arguments: &[String],
        filling: Filling<'_>,
    ) -> Result<(), String> {
        for argument in arguments {
            line.extend(self.argument(argument, filling)?);
        }
        Ok(())
    }

    fn members(&self, name: &str, filling: Filling<'_>) -> Result<Vec<String>, String> {
        match (self.params.get(name), filling.params.get(name)) {
            (Some(param), Some(value)) if !value.is_null() => param
                .fill_each(value, filling.places.input)
                .map_err(|why| format!("parameter `{name}` {why}")),
            _ => Ok(Vec::new()),
        }
    }

    fn argument(&self, item: &str, filling: Filling<'_>) -> Result<Option<String>, String> {
        let pieces = template::parse(item)?;
        if let Some(name) = template::alone(&pieces)
            && let Some(Param::Flag(flag)) = self.params.get(name)
            && let Some(argument) = &flag.argument
        {
            let is_set = filling.params.get(name) == Some(&Value::Bool(true));
            return Ok(is_set.then(|| argument.clone()));
        }
        let argument = self.text_of(&pieces, filling)?;
        if argument.as_ref().is_some_and(|text| text.contains('\0')) {
            return Err(format!("argument `{item}` would hold a NUL character"));
        }
        Ok(argument)
    }

    /// The pieces filled and joined; nothing when a parameter among them wasn't given.
    fn text_of(&self, pieces: &[Piece], filling: Filling<'_>) -> Result<Option<String>, String> {
        let mut text = String::new();
        for piece in pieces {
            match self.fill(piece, filling)? {
                Some(part) => text.push_str(&part),
                None => return Ok(None),
            }
        }
        Ok(Some(text))
    }

    fn fill(&self, piece: &Piece, filling: Filling<'_>) -> Result<Option<String>, String> {
        let name = match piece {
            Piece::Literal(text) => return Ok(Some(text.clone())),
            Piece::Placeholder(name) => name.as_str(),
        };
        if let Some((list, member)) = filling.member
            && list == name
        {
            return Ok(Some(member.to_owned()));
        }
        if let Some(param) = self.params.get(name) {
            let value = filling.params.get(name).filter(|value| !value.is_null());
            let fill = |value| param.fill(value, filling.places.input);
            return value
                .map(fill)
                .transpose()
                .map_err(|why| format!("parameter `{name}` {why}"));
        }
        filling.places.fill(name).map(Some)
    }
}
