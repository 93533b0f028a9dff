use serde_json::{Map, Value, json};

use crate::definition::ToolDefinition;
use crate::param::{ChoiceParam, FastaParam, IntegerParam, NumberParam, Param, TextParam};

impl ToolDefinition {
    /// The JSON Schema (draft 2020-12) of this tool's parameters.
    ///
    /// A choice shows its keys, never the values that the command gets: those are paths of this machine.
    pub fn schema(&self) -> Value {
        let properties: Map<_, _> = self
            .params
            .iter()
            .map(|(name, param)| (name.clone(), property(param)))
            .collect();
        let required: Vec<_> = self
            .params
            .iter()
            .filter(|(_, param)| param.is_required())
            .map(|(name, _)| name)
            .collect();
        let mut schema = json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "properties": properties,
            "required": required,
            "additionalProperties": false,
        });
        set(&mut schema, "title", self.title.as_ref());
        set(&mut schema, "description", self.help.as_ref());
        schema
    }
}

fn property(param: &Param) -> Value {
    let mut property = match param {
        Param::Fasta(fasta) => of_fasta(fasta),
        Param::Text(text) => of_text(text),
        Param::Number(number) => of_number(number),
        Param::Integer(integer) => of_integer(integer),
        Param::Choice(choice) => of_choice(choice),
        Param::Flag(_) => json!({"type": "boolean"}),
    };
    set(&mut property, "title", param.title());
    set(&mut property, "description", param.help());
    set(&mut property, "default", param.default_value());
    property
}

fn of_fasta(fasta: &FastaParam) -> Value {
    // No standard keyword counts records or residues: these are annotations, and `accept` is the judge.
    let mut property = json!({
        "type": "string",
        "minLength": 1,
        "contentMediaType": "text/x-fasta",
        "x-onelane-type": "fasta",
        "x-onelane-alphabet": fasta.alphabet,
    });
    set(&mut property, "x-onelane-max-records", fasta.max_records);
    set(&mut property, "x-onelane-max-residues", fasta.max_residues);
    property
}

fn of_text(text: &TextParam) -> Value {
    let mut property = json!({"type": "string", "maxLength": text.longest()});
    set(&mut property, "minLength", text.min_length);
    set(
        &mut property,
        "pattern",
        (!text.allow_dash).then_some("^(?!-)"),
    );
    property
}

fn of_number(number: &NumberParam) -> Value {
    let mut property = json!({"type": "number"});
    set(&mut property, "minimum", number.min);
    set(&mut property, "maximum", number.max);
    property
}

fn of_integer(integer: &IntegerParam) -> Value {
    let mut property = json!({"type": "integer"});
    set(&mut property, "minimum", integer.min);
    set(&mut property, "maximum", integer.max);
    property
}

fn of_choice(choice: &ChoiceParam) -> Value {
    let keys: Vec<_> = choice.choices.keys().collect();
    json!({"type": "string", "enum": keys})
}

fn set(schema: &mut Value, key: &str, value: Option<impl serde::Serialize>) {
    if let Some(value) = value {
        schema[key] = json!(value);
    }
}
