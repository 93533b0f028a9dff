//! What the TOML reader and serde say, in the words of those who write tools files.

use toml::de::DeValue;

use crate::param::quoted;

/// The sentence for a value of the wrong type, or out of its type's range; none if the message is of another kind.
pub(super) fn wrong_value(message: &str, value: Option<&DeValue<'_>>) -> Option<String> {
    if message == "wanted string or table" {
        return Some(expected("text", value));
    }
    let rest = message
        .strip_prefix("invalid type: ")
        .or_else(|| message.strip_prefix("invalid value: "))?;
    let (_, wanted) = rest.rsplit_once(", expected ")?;
    let is_in_range = message.starts_with("invalid type: ");
    Some(expected(&kind(wanted, is_in_range, value), value))
}

/// Says what should stand at a place, and what stands there.
pub(super) fn expected(wanted: &str, value: Option<&DeValue<'_>>) -> String {
    match value {
        Some(value) => format!("{wanted} is expected here, not {}", what(value)),
        None => format!("{wanted} is expected here"),
    }
}

/// A value as a sentence names it.
pub(super) fn what(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("the text {}", quoted(text)),
        DeValue::Integer(number) => format!("the number `{number}`"),
        DeValue::Float(number) => format!("the number `{number}`"),
        DeValue::Boolean(set) => format!("`{set}`"),
        DeValue::Datetime(_) => "a date or time".to_owned(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}

fn kind(wanted: &str, is_in_range: bool, value: Option<&DeValue<'_>>) -> String {
    let word = match wanted.trim() {
        "a nonzero u32" | "a nonzero u64" => "a whole number of at least 1",
        "u32" | "u64" | "i32" | "i64" | "usize" if is_in_range => "a whole number",
        "u32" | "u64" if is_negative(value) => "a whole number of at least 0",
        "u32" => return format!("a whole number of at most {}", u32::MAX),
        "u64" | "i32" | "i64" | "usize" => "a smaller whole number",
        "f32" | "f64" => "a number",
        "a string" | "path string" | "string or map" => "text",
        "a boolean" => "`true` or `false`",
        "a sequence" => "a list",
        "a map" => "a table",
        other if other.starts_with("struct ") => "a table",
        other => other,
    };
    word.to_owned()
}

fn is_negative(value: Option<&DeValue<'_>>) -> bool {
    matches!(value, Some(DeValue::Integer(number)) if number.as_str().starts_with('-'))
}
