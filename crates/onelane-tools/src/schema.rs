use serde_json::{Map, Value, json};

use crate::definition::ToolDefinition;
use crate::param::{
    ChoicesParam, FastaParam, FastqParam, FileRules, FilesParam, IntegerParam, JsonParam,
    NumberParam, Param, TextParam, anchored,
};

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
        Param::Choice(choice) => {
            let keys: Vec<_> = choice.choices.keys().collect();
            json!({"type": "string", "enum": keys})
        }
        Param::Choices(choices) => of_choices(choices),
        Param::Flag(_) => json!({"type": "boolean"}),
        Param::Fastq(fastq) => of_fastq(fastq),
        Param::File(file) => of_file(file.rules()),
        Param::Files(files) => of_files(files),
        Param::Json(json) => of_json(json),
    };
    set(&mut property, "title", param.title());
    set(&mut property, "description", param.help());
    set(&mut property, "default", param.default_value());
    set(
        &mut property,
        "examples",
        param.example().map(|example| vec![example]),
    );
    set(
        &mut property,
        "x-onelane-advanced",
        param.is_advanced().then_some(true),
    );
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
    let letters = (!fasta.letters.is_empty()).then_some(&fasta.letters);
    set(&mut property, "x-onelane-letters", letters);
    property
}

fn of_fastq(fastq: &FastqParam) -> Value {
    let mut property = json!({
        "type": "string",
        "minLength": 1,
        "contentMediaType": "text/x-fastq",
        "x-onelane-type": "fastq",
        "x-onelane-alphabet": fastq.alphabet,
    });
    set(&mut property, "x-onelane-max-records", fastq.max_records);
    set(&mut property, "x-onelane-max-residues", fastq.max_residues);
    property
}

/// The content of a file that is text; one that isn't comes as a multipart file.
fn of_file(rules: FileRules<'_>) -> Value {
    let mut property = json!({"type": "string", "x-onelane-type": "file"});
    let extension = (!rules.extension.is_empty()).then_some(rules.extension);
    set(&mut property, "x-onelane-extension", extension);
    set(&mut property, "x-onelane-max-size", rules.max_size);
    property
}

fn of_files(files: &FilesParam) -> Value {
    let (fewest, most) = files.counts();
    let content = of_file(files.rules());
    let list = json!({"type": "array", "items": content, "minItems": fewest, "maxItems": most});
    // One alone need not be put into a list.
    let ways = if fewest <= 1 {
        vec![list, content]
    } else {
        vec![list]
    };
    json!({"anyOf": ways, "x-onelane-type": "files"})
}

fn of_choices(choices: &ChoicesParam) -> Value {
    let keys: Vec<_> = choices.choices.keys().collect();
    let mut list = json!({
        "type": "array",
        "items": {"type": "string", "enum": keys},
        "uniqueItems": true,
        "minItems": choices.min_count.unwrap_or(1),
    });
    set(&mut list, "maxItems", choices.max_count);
    list
}

fn of_json(param: &JsonParam) -> Value {
    let mut property = json!({
        "anyOf": [
            {"type": ["object", "array", "number", "boolean"]},
            {"type": "string", "contentMediaType": "application/json"},
        ],
        "x-onelane-type": "json",
    });
    set(&mut property, "x-onelane-max-size", param.max_size);
    property
}

fn of_text(text: &TextParam) -> Value {
    let mut property = json!({"type": "string", "maxLength": text.longest()});
    set(&mut property, "minLength", text.min_length);
    let no_dash = (!text.allow_dash).then(|| "^(?!-)".to_owned());
    let pattern = text.pattern.as_deref().map(anchored);
    match (no_dash, pattern) {
        (Some(one), Some(other)) => {
            property["allOf"] = json!([{"pattern": one}, {"pattern": other}]);
        }
        (one, other) => set(&mut property, "pattern", one.or(other)),
    }
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

fn set(schema: &mut Value, key: &str, value: Option<impl serde::Serialize>) {
    if let Some(value) = value {
        schema[key] = json!(value);
    }
}
