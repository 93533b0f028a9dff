//! Taking a mistake out of a value, so that what is beside it can be read and told too.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeArray, DeValue};

use super::reader::Node;

/// What was taken out of a value.
#[derive(Default)]
pub(super) struct LeftOut {
    /// The names of the keys, those that were meant by unknown ones among them: that they are missing is no mistake of
    /// its own.
    pub(super) names: Vec<String>,
    /// Where the keys and values begin that were taken out, or that something was taken out of.
    pub(super) places: Vec<usize>,
}

/// The innermost value with this place.
pub(super) fn find<'n, 'i>(node: &'n Node<'i>, span: &Range<usize>) -> Option<&'n Node<'i>> {
    let inner = match node.get_ref() {
        DeValue::Table(table) => table.values().find_map(|node| find(node, span)),
        DeValue::Array(list) => list.iter().find_map(|node| find(node, span)),
        _ => None,
    };
    inner.or_else(|| (node.span() == *span).then_some(node))
}

/// Takes out the innermost entry or member that has this place; false if there is none.
pub(super) fn take_out(node: &mut Node<'_>, span: &Range<usize>, left_out: &mut LeftOut) -> bool {
    let at = node.span().start;
    let is_out = match node.get_mut() {
        DeValue::Table(table) => {
            let mut emptied = None;
            let mut is_inside = false;
            for (key, node) in table.iter_mut() {
                is_inside = take_out(node, span, left_out);
                if is_inside || key.span() == *span || node.span() == *span {
                    left_out
                        .places
                        .extend([key.span().start, node.span().start]);
                    emptied = (!is_inside).then(|| key.get_ref().to_string());
                    is_inside = true;
                    break;
                }
            }
            if let Some(name) = emptied {
                table.remove(name.as_str());
                left_out.names.push(name);
            }
            is_inside
        }
        DeValue::Array(list) => {
            list.iter_mut().any(|node| take_out(node, span, left_out)) || take_member(list, span)
        }
        _ => false,
    };
    if is_out {
        left_out.places.push(at);
    }
    is_out
}

fn take_member(list: &mut DeArray<'_>, span: &Range<usize>) -> bool {
    let before = list.len();
    let mut rest = DeArray::new();
    for node in std::mem::replace(list, DeArray::new()) {
        if node.span() != *span {
            rest.push(node);
        }
    }
    *list = rest;
    list.len() < before
}

/// Puts something harmless where a key is missing in the table with this place; false if there is no such table.
pub(super) fn put_in(node: &mut Node<'_>, span: &Range<usize>, name: &str) -> bool {
    let is_here = node.span() == *span;
    let is_inside = match node.get_mut() {
        DeValue::Table(table) => table.iter_mut().any(|(_, node)| put_in(node, span, name)),
        DeValue::Array(list) => list.iter_mut().any(|node| put_in(node, span, name)),
        _ => return false,
    };
    if is_inside || !is_here {
        return is_inside;
    }
    let DeValue::Table(table) = node.get_mut() else {
        return false;
    };
    let value = match name {
        "args" => DeValue::Array(DeArray::new()),
        "params" => DeValue::Table(toml::de::DeTable::new()),
        _ => DeValue::String("x".into()),
    };
    let is_new = !table.contains_key(name);
    table.insert(
        Spanned::new(span.clone(), name.to_owned().into()),
        Spanned::new(span.clone(), value),
    );
    is_new
}
