use std::collections::VecDeque;

/// The placeholders that every command may use besides its parameters.
pub(crate) const PLACES: [&str; 6] = ["output", "work", "cpus", "memory_bytes", "job_id", "name"];

/// A piece of one argument of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    Literal(String),
    Placeholder(String),
}

/// Splits one argument into its pieces. `{{` and `}}` are braces; `{name}` is a placeholder.
///
/// The pieces are found in what the tools file says, before any value is known, and values are never looked at again:
/// so whatever a value contains, it can't add an argument or a placeholder.
pub(crate) fn parse(item: &str) -> Result<Vec<Piece>, String> {
    let mut rest: VecDeque<char> = item.chars().collect();
    let mut pieces = Vec::new();
    let mut literal = String::new();
    while let Some(c) = rest.pop_front() {
        let doubled = rest.front() == Some(&c);
        match c {
            '{' | '}' if doubled => {
                rest.pop_front();
                literal.push(c);
            }
            '{' => {
                push_literal(&mut pieces, &mut literal);
                pieces.push(Piece::Placeholder(placeholder(&mut rest, item)?));
            }
            '}' => {
                return Err(format!(
                    "`}}` without `{{` in `{item}`; a brace is written `}}}}`"
                ));
            }
            other => literal.push(other),
        }
    }
    push_literal(&mut pieces, &mut literal);
    Ok(pieces)
}

fn placeholder(rest: &mut VecDeque<char>, item: &str) -> Result<String, String> {
    let mut name = String::new();
    while let Some(c) = rest.pop_front() {
        match c {
            '}' if name.is_empty() => break,
            '}' => return Ok(name),
            other => name.push(other),
        }
    }
    Err(format!(
        "`{{` that is no placeholder in `{item}`; a brace is written `{{{{`"
    ))
}

fn push_literal(pieces: &mut Vec<Piece>, literal: &mut String) {
    if !literal.is_empty() {
        pieces.push(Piece::Literal(std::mem::take(literal)));
    }
}

/// Text whose braces stand for themselves.
pub(crate) fn escape(text: &str) -> String {
    text.replace('{', "{{").replace('}', "}}")
}

/// The names of the placeholders of these pieces.
pub(crate) fn names(pieces: &[Piece]) -> impl Iterator<Item = &str> {
    pieces.iter().filter_map(|piece| match piece {
        Piece::Placeholder(name) => Some(name.as_str()),
        Piece::Literal(_) => None,
    })
}

/// The placeholder that is the whole argument, if it is.
pub(crate) fn alone(pieces: &[Piece]) -> Option<&str> {
    match pieces {
        [Piece::Placeholder(name)] => Some(name),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn literal(text: &str) -> Piece {
        Piece::Literal(text.to_owned())
    }

    fn hole(name: &str) -> Piece {
        Piece::Placeholder(name.to_owned())
    }

    #[test]
    fn an_argument_splits_into_literals_and_placeholders() {
        for (item, expected) in [
            ("", vec![]),
            ("-out", vec![literal("-out")]),
            ("{query}", vec![hole("query")]),
            (
                "{output}/{name}.tsv",
                vec![hole("output"), literal("/"), hole("name"), literal(".tsv")],
            ),
            ("a{{b}}c", vec![literal("a{b}c")]),
            ("{{{x}}}", vec![literal("{"), hole("x"), literal("}")]),
            ("{{x}}", vec![literal("{x}")]),
        ] {
            assert_eq!(parse(item).unwrap(), expected, "{item}");
        }
    }

    #[test]
    fn a_lone_brace_is_refused() {
        for item in ["{", "}", "{}", "a}b", "{query", "{{}", "{a}}"] {
            assert!(parse(item).is_err(), "{item}");
        }
    }

    #[test]
    fn escaped_text_is_one_literal() {
        for text in ["{query}", "}{", "{{}}", "plain"] {
            assert_eq!(parse(&escape(text)).unwrap(), vec![literal(text)]);
        }
    }
}
