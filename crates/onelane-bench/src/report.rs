//! What a command found: tables to read, JSON to keep, a picture to show.

use std::fmt::Write as _;
use std::fs;

use anyhow::Context;
use serde::Serialize;

use crate::machine::Machine;
use crate::{Common, svg};

/// One cell of a table.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub(crate) enum Cell {
    /// Words.
    Text(String),
    /// A figure, in the unit that its column names.
    Number(f64),
    /// A count.
    Count(u64),
}

impl Cell {
    fn shown(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Number(number) => figure(*number),
            Self::Count(count) => figure_of_count(*count),
        }
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<f64> for Cell {
    fn from(number: f64) -> Self {
        Self::Number(number)
    }
}

impl From<u64> for Cell {
    fn from(count: u64) -> Self {
        Self::Count(count)
    }
}

impl From<usize> for Cell {
    fn from(count: usize) -> Self {
        Self::Count(count as u64)
    }
}

/// Thousands apart.
fn figure_of_count(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "figures to read, none of them negative"
)]
fn whole(number: f64) -> String {
    figure_of_count(number.round() as u64)
}

/// Three digits that matter, thousands apart.
pub(crate) fn figure(number: f64) -> String {
    match number.abs() {
        large if large >= 1000.0 => whole(number),
        hundreds if hundreds >= 100.0 => format!("{number:.0}"),
        tens if tens >= 10.0 => format!("{number:.1}"),
        ones if ones >= 1.0 => format!("{number:.2}"),
        _ => format!("{number:.3}"),
    }
}

/// A table.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Table {
    pub(crate) title: String,
    pub(crate) columns: Vec<String>,
    pub(crate) rows: Vec<Vec<Cell>>,
}

impl Table {
    pub(crate) fn new(title: &str, columns: &[&str]) -> Self {
        Self {
            title: title.to_owned(),
            columns: columns.iter().map(|name| (*name).to_owned()).collect(),
            rows: Vec::new(),
        }
    }

    pub(crate) fn row(&mut self, cells: Vec<Cell>) {
        self.rows.push(cells);
    }

    /// As Markdown, with columns lined up.
    fn text(&self) -> String {
        let shown: Vec<Vec<String>> = std::iter::once(self.columns.clone())
            .chain(
                self.rows
                    .iter()
                    .map(|row| row.iter().map(Cell::shown).collect()),
            )
            .collect();
        let width = |column: usize| {
            let cells = shown.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.columns.len()).map(width).collect();
        let mut text = format!("\n{}\n\n", self.title);
        for (number, row) in shown.iter().enumerate() {
            for (cell, width) in row.iter().zip(&widths) {
                // Writing to a string can't fail.
                write!(text, "| {cell:<width$} ").ok();
            }
            text.push_str("|\n");
            if number == 0 {
                for width in &widths {
                    write!(text, "|{}", "-".repeat(width + 2)).ok();
                }
                text.push_str("|\n");
            }
        }
        text
    }
}

/// A picture: labelled bars.
#[derive(Clone, Debug)]
pub(crate) struct Chart {
    pub(crate) title: String,
    pub(crate) unit: &'static str,
    pub(crate) bars: Vec<(String, f64)>,
}

/// A promise about a ratio or a figure.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Budget {
    pub(crate) what: String,
    pub(crate) measured: f64,
    pub(crate) at_least: f64,
    pub(crate) aim: f64,
    pub(crate) met: bool,
}

/// All that a command found.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) command: &'static str,
    pub(crate) machine: Machine,
    pub(crate) small: bool,
    pub(crate) rounds: usize,
    pub(crate) notes: Vec<String>,
    pub(crate) tables: Vec<Table>,
    pub(crate) budgets: Vec<Budget>,
    #[serde(skip)]
    pub(crate) charts: Vec<Chart>,
}

impl Report {
    pub(crate) fn new(command: &'static str, common: &Common) -> Self {
        Self {
            command,
            machine: Machine::here(&common.out),
            small: common.small,
            rounds: common.rounds(),
            notes: Vec::new(),
            tables: Vec::new(),
            budgets: Vec::new(),
            charts: Vec::new(),
        }
    }

    /// A ratio that should be large.
    pub(crate) fn at_least(&mut self, what: &str, measured: f64, at_least: f64, aim: f64) {
        self.budget(what, measured, (at_least, aim), measured >= at_least);
    }

    /// A figure that should be small.
    pub(crate) fn at_most(&mut self, what: &str, measured: f64, at_most: f64, aim: f64) {
        self.budget(what, measured, (at_most, aim), measured <= at_most);
    }

    fn budget(&mut self, what: &str, measured: f64, (at_least, aim): (f64, f64), met: bool) {
        self.budgets.push(Budget {
            what: what.to_owned(),
            measured,
            at_least,
            aim,
            met,
        });
    }

    fn budget_table(&self) -> Table {
        let columns = ["budget", "measured", "at least", "aim", "met"];
        let mut table = Table::new("Budgets", &columns);
        for budget in &self.budgets {
            table.row(vec![
                budget.what.clone().into(),
                budget.measured.into(),
                budget.at_least.into(),
                budget.aim.into(),
                if budget.met { "yes" } else { "NO" }.into(),
            ]);
        }
        table
    }

    /// Prints the tables and writes the files.
    pub(crate) fn finish(self, common: &Common) -> anyhow::Result<()> {
        println!("{}: {}", self.command, self.machine.line());
        for note in &self.notes {
            println!("* {note}");
        }
        for table in &self.tables {
            print!("{}", table.text());
        }
        if !self.budgets.is_empty() {
            print!("{}", self.budget_table().text());
        }
        fs::create_dir_all(&common.out)?;
        let path = |ending: &str| common.out.join(format!("{}.{ending}", self.command));
        fs::write(path("json"), serde_json::to_vec_pretty(&self)?)
            .context("can't write the figures")?;
        fs::write(path("svg"), svg::draw(&self.charts, &self.machine.line()))
            .context("can't write the picture")?;
        println!("\n{} and {}", path("json").display(), path("svg").display());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_show_three_digits_that_matter() {
        let shown = [0.01234, 1.234, 12.34, 123.4, 1234.0, 1_234_567.0].map(figure);
        assert_eq!(
            shown,
            ["0.012", "1.23", "12.3", "123", "1,234", "1,234,567"]
        );
    }

    #[test]
    fn a_table_lines_up() {
        let mut table = Table::new("T", &["a", "long"]);
        table.row(vec!["xyz".into(), 1.0.into()]);
        let text = table.text();
        assert!(text.ends_with("| a   | long |\n|-----|------|\n| xyz | 1.00 |\n"));
    }
}
