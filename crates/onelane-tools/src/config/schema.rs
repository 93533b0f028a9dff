//! The tools file's own JSON Schema, for editors. The reader is the judge; a test holds the two together.

use serde_json::{Value, json};

use crate::definition::View;
use crate::param::KINDS;

/// The JSON Schema (draft 2020-12) of a tools file, for editors.
pub fn tools_file_schema() -> Value {
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Onelane tools file",
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "server": server(),
            "machine": machine(),
            "include": one_or_more("Pattern of files with more tools, relative to this file"),
            "tools": {
                "type": "object",
                "propertyNames": {"pattern": "^[a-z0-9][a-z0-9_-]*$"},
                "additionalProperties": {"$ref": "#/$defs/tool"},
            },
        },
        "$defs": {
            "tool": tool(),
            "item": item(),
            "param": param(),
            "result": result(),
            "span": {"type": "string", "pattern": "^\\s*[0-9]+\\s*(ms|s|m|min|h|d)\\s*$"},
            "size": {"anyOf": [
                {"type": "integer", "minimum": 0},
                {"type": "string", "pattern": "^\\s*[0-9]+\\s*([bB]|[kKmMgGtT]([iI][bB])?)?\\s*$"},
            ]},
        },
    })
}

/// A table: its keys, and those that must be there.
fn table(properties: &Value, required: &[&str]) -> Value {
    json!({
        "type": "object",
        "additionalProperties": false,
        "properties": properties,
        "required": required,
    })
}

fn text(description: &str) -> Value {
    json!({"type": "string", "description": description})
}

fn texts(description: &str) -> Value {
    json!({"type": "array", "items": {"type": "string"}, "description": description})
}

fn one_or_more(description: &str) -> Value {
    json!({
        "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
        "description": description,
    })
}

fn number(kind: &str, description: &str) -> Value {
    json!({"type": kind, "description": description})
}

fn flag(description: &str) -> Value {
    json!({"type": "boolean", "description": description})
}

fn server() -> Value {
    table(
        &json!({
            "listen": text("Address and port, such as 127.0.0.1:8000"),
            "data": text("The data folder, on a local disk"),
            "jobs": text("The folder of the jobs, if it is not in the data folder"),
            "default_tool": text("The tool behind the plain interface at /"),
            "hosts": texts("Host names under which the server may be reached"),
            "disk_floor": {"$ref": "#/$defs/size"},
            "process_control": {"enum": ["auto", "cgroup", "namespace", "guard"],
                                "description": "What holds the processes of a job together"},
        }),
        &[],
    )
}

fn machine() -> Value {
    table(
        &json!({
            "cpus": {"type": "integer", "minimum": 1, "description": "Processors that jobs may use"},
            "memory": {"$ref": "#/$defs/size", "description": "Memory that jobs may use"},
            "gpus": {"type": "array", "items": {"type": "integer", "minimum": 0}, "uniqueItems": true},
        }),
        &[],
    )
}

fn tool() -> Value {
    let mut schema = table(
        &json!({
            "title": text("What people call it"),
            "help": text("What it does, for people"),
            "command": {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/item"},
                        "description": "The program and its arguments, with placeholders"},
            "version": {"type": "array", "minItems": 1, "items": {"type": "string"},
                        "description": "A command that prints the tool's version"},
            "needs": needs(),
            "limits": limits(),
            "grace": {"$ref": "#/$defs/span"},
            "cpu_priority": {"enum": ["idle", "normal"],
                             "description": "Whether it yields to the server and to other programs"},
            "on_interrupt": {"enum": ["restart", "fail"], "description": "What follows a power cut"},
            "params": {"type": "object", "propertyNames": {"pattern": "^[a-z][a-z0-9_]*$"},
                       "additionalProperties": {"$ref": "#/$defs/param"}},
            "results": {"type": "object", "additionalProperties": {"$ref": "#/$defs/result"}},
            "exit_codes": {"type": "object", "propertyNames": {"pattern": "^[0-9]+$"},
                           "additionalProperties": {"type": "string"}},
            "stdin": text("What it reads on its standard input, such as {query}"),
            "workdir": text("The folder it runs in: work, output, or a fixed one"),
            "env": env(),
            "success": success(),
            "progress": progress(),
            "example": example(),
            "worker": {"type": "array", "minItems": 1, "items": {"type": "string"},
                       "description": "Instead of a command: a program that stays, and gets its jobs over a socket"},
            "keep": {"anyOf": [{"const": "always"}, {"$ref": "#/$defs/span"}],
                     "description": "How long an idle worker stays"},
            "max_jobs": {"type": "integer", "minimum": 1, "description": "After so many jobs a worker is renewed"},
            "builtin": {"enum": ["search"], "description": "A tool that comes with Onelane"},
            "library": text("The built-in search's library, FASTA"),
            "mode": {"enum": ["protein", "nucleotide"]},
        }),
        &[],
    );
    schema["oneOf"] =
        json!([{"required": ["command"]}, {"required": ["worker"]}, {"required": ["builtin"]}]);
    schema
}

fn needs() -> Value {
    let mut schema = table(
        &json!({
            "cpus": {"type": "integer", "minimum": 1},
            "memory": {"$ref": "#/$defs/size"},
            "gpus": {"type": "integer", "minimum": 0},
        }),
        &[],
    );
    schema["description"] = json!("What it takes of the machine; left out: all of it");
    schema
}

fn limits() -> Value {
    let mut schema = table(
        &json!({
            "time": {"$ref": "#/$defs/span"},
            "memory": {"$ref": "#/$defs/size"},
            "processes": {"type": "integer", "minimum": 1},
            "log": {"$ref": "#/$defs/size"},
            "output": {"$ref": "#/$defs/size"},
        }),
        &[],
    );
    schema["description"] = json!("What an attempt may use before it is ended");
    schema
}

fn item() -> Value {
    let args = texts("The arguments, with placeholders");
    json!({"anyOf": [
        {"type": "string"},
        table(
            &json!({
                "when": {"anyOf": [{"type": "string"}, {"type": "object"}],
                         "description": "A parameter that must be set, or a table of parameters and their values"},
                "args": args,
            }),
            &["when", "args"],
        ),
        table(
            &json!({"each": text("A list parameter: the arguments are there once for each member"), "args": args}),
            &["each", "args"],
        ),
    ]})
}

fn env() -> Value {
    let secret = table(
        &json!({"file": text("A file that holds the value")}),
        &["file"],
    );
    json!({
        "type": "object",
        "propertyNames": {"pattern": "^(?!ONELANE_)[A-Za-z_][A-Za-z0-9_]*$"},
        "additionalProperties": {"anyOf": [{"type": "string"}, secret]},
    })
}

fn success() -> Value {
    let code = json!({"type": "integer", "minimum": 0, "maximum": 255});
    table(
        &json!({
            "exit_codes": {"type": "array", "items": code, "minItems": 1},
            "file": text("A file that must be in the output folder at the end"),
        }),
        &[],
    )
}

fn progress() -> Value {
    table(
        &json!({
            "pattern": text("A regular expression for standard error, with one group (the number) or two (done, of all)"),
            "scale": {"type": "number", "exclusiveMinimum": 0, "description": "The number that means the end"},
        }),
        &["pattern"],
    )
}

fn example() -> Value {
    let expect = table(
        &json!({
            "contains": one_or_more("What must occur in the result"),
            "min_bytes": number("integer", "The fewest bytes"),
            "sha256": text("SHA-256 of the result"),
        }),
        &[],
    );
    table(
        &json!({
            "params": {"type": "object"},
            "expect": {"type": "object", "additionalProperties": expect},
        }),
        &["params"],
    )
}

fn result() -> Value {
    let views = [
        View::Table,
        View::Text,
        View::Alignment,
        View::Fasta,
        View::Image,
        View::Json,
        View::Html,
        View::Structure,
    ];
    table(
        &json!({
            "file": text("Its path in the output folder"),
            "title": text("What people call it"),
            "view": {"enum": views.map(View::word)},
            "columns": texts("A table's columns, where the file has no line of headings"),
            "required": flag("A job without it has failed"),
            "media_type": text("The media type it is served with"),
        }),
        &["file"],
    )
}

/// One shape for each type of parameter.
fn param() -> Value {
    let shapes: Vec<_> = KINDS.iter().map(|kind| param_of(kind)).collect();
    json!({"type": "object", "required": ["type"], "oneOf": shapes})
}

fn param_of(kind: &str) -> Value {
    let mut properties = own_keys(kind);
    properties["type"] = json!({"const": kind});
    properties["title"] = text("What people call it");
    properties["help"] = text("What it is for");
    properties["example"] = json!({"description": "A value that people are shown"});
    properties["advanced"] = flag("Shown to those who ask for more");
    if kind != "flag" {
        properties["optional"] = flag("It may be left out");
    }
    table(&properties, &["type"])
}

fn own_keys(kind: &str) -> Value {
    let alphabet = json!({"enum": ["protein", "dna", "rna", "nucleotide", "any"]});
    let count = json!({"type": "integer", "minimum": 0});
    let size = json!({"$ref": "#/$defs/size"});
    match kind {
        "fasta" => json!({
            "alphabet": alphabet, "max_records": count, "max_residues": count, "max_header": count,
            "letters": text("Signs that may occur besides, such as : * - ."),
            "duplicates": {"enum": ["refuse", "rename"]},
            "allow_nucleotides": flag("Take what looks like nucleotides where proteins are expected"),
        }),
        "fastq" => json!({
            "alphabet": alphabet, "max_records": count, "max_residues": count, "max_header": count,
        }),
        "file" => json!({
            "extension": one_or_more("What may stand behind the dot"), "max_size": size,
            "magic": one_or_more("How it may begin: text, or hex:1f8b"),
        }),
        "files" => json!({
            "extension": one_or_more("What may stand behind the dot"), "max_size": size,
            "magic": one_or_more("How each may begin: text, or hex:1f8b"),
            "min_count": count, "max_count": count,
        }),
        "text" => json!({
            "default": {"type": "string"}, "min_length": count, "max_length": count,
            "pattern": text("A regular expression that the whole text must match"),
            "allow_dash": flag("It may begin with -"),
        }),
        "number" | "integer" => {
            let bound = json!({"type": kind});
            json!({"default": bound, "min": bound, "max": bound})
        }
        "choice" => json!({
            "default": {"type": "string"}, "choices": choices(),
            "choices_from": text("A pattern of files: each is a choice"),
        }),
        "choices" => json!({
            "default": {"type": "array", "items": {"type": "string"}}, "choices": choices(),
            "choices_from": text("A pattern of files: each is a choice"),
            "min_count": count, "max_count": count,
        }),
        "flag" => json!({
            "default": {"type": "boolean"},
            "argument": text("The argument that it becomes if it is set"),
        }),
        _ => json!({"default": {}, "max_size": size}),
    }
}

fn choices() -> Value {
    json!({
        "anyOf": [
            {"type": "array", "items": {"type": "string"}, "uniqueItems": true, "minItems": 1},
            {"type": "object", "additionalProperties": {"type": "string"}, "minProperties": 1},
        ],
        "description": "What the client sees, and what the command gets",
    })
}
