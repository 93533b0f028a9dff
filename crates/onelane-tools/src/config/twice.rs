//! Where a key stands that is there twice: the TOML reader tells the place of the second one only.

use std::ops::Range;

use toml::de::{DeTable, DeValue};

/// Another name for the second key, so that both can be read.
const OTHER: &str = "the-other-one";

/// The place of the first key, where the one at this place is the second. The text is read again with another name for the
/// second, and what is beside that under its name is the first.
pub(super) fn first(text: &str, second: &Range<usize>) -> Option<usize> {
    let (before, after) = (text.get(..second.start)?, text.get(second.end..)?);
    let name = text.get(second.clone())?.trim_matches(['"', '\'']);
    let renamed = format!("{before}{OTHER}{after}");
    let (root, _) = DeTable::parse_recoverable(&renamed);
    let table = table_with(root.get_ref(), second.start)?;
    let (key, _) = table.get_key_value(name)?;
    Some(key.span().start)
}

/// The table that has a key at this place.
fn table_with<'t, 'i>(table: &'t DeTable<'i>, at: usize) -> Option<&'t DeTable<'i>> {
    if table.keys().any(|key| key.span().start == at) {
        return Some(table);
    }
    table.values().find_map(|node| within(node.get_ref(), at))
}

fn within<'t, 'i>(value: &'t DeValue<'i>, at: usize) -> Option<&'t DeTable<'i>> {
    match value {
        DeValue::Table(table) => table_with(table, at),
        DeValue::Array(list) => list.iter().find_map(|node| within(node.get_ref(), at)),
        _ => None,
    }
}
