//! Bars, as a picture that a page can show: plain shapes and text, readable on a light and a dark ground.

use std::fmt::Write as _;

use crate::report::{Chart, figure};

const WIDTH: f64 = 760.0;
const LABELS: f64 = 300.0;
const BARS: f64 = 360.0;
const LINE: f64 = 22.0;

/// All charts, one below the other, with a line of small print.
pub(crate) fn draw(charts: &[Chart], small_print: &str) -> String {
    let mut body = String::new();
    let mut y = 10.0;
    for chart in charts {
        y = draw_chart(&mut body, chart, y);
    }
    text(&mut body, (10.0, y + 14.0), 11, "normal", small_print);
    let height = y + 26.0;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" \
         role=\"img\">\n<rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#ffffff\"/>\n{body}</svg>\n"
    )
}

/// Gives where the next one begins.
fn draw_chart(body: &mut String, chart: &Chart, top: f64) -> f64 {
    let title = format!("{} ({})", chart.title, chart.unit);
    text(body, (10.0, top + 16.0), 14, "bold", &title);
    let values = chart.bars.iter().map(|(_, value)| *value);
    let largest = values
        .filter(|v| v.is_finite())
        .fold(f64::MIN_POSITIVE, f64::max);
    let mut y = top + 28.0;
    for (label, value) in &chart.bars {
        let width = if value.is_finite() {
            (value / largest * BARS).max(1.0)
        } else {
            0.0
        };
        let colour = if label.starts_with("Onelane") {
            "#0b7a75"
        } else {
            "#9aa5b1"
        };
        text(body, (10.0, y + 14.0), 12, "normal", label);
        // Writing to a string can't fail.
        writeln!(
            body,
            "<rect x=\"{LABELS}\" y=\"{y}\" width=\"{width:.1}\" height=\"16\" fill=\"{colour}\"/>"
        )
        .ok();
        let at = (LABELS + width + 6.0, y + 13.0);
        text(body, at, 12, "normal", &figure(*value));
        y += LINE;
    }
    y + 14.0
}

fn text(body: &mut String, (x, y): (f64, f64), size: u32, weight: &str, words: &str) {
    let words = words.replace('&', "&amp;").replace('<', "&lt;");
    writeln!(
        body,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" font-size=\"{size}\" font-weight=\"{weight}\" fill=\"#1f2933\">{words}</text>"
    )
    .ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_bar_is_as_wide_as_the_picture_allows_and_text_is_escaped() {
        let chart = Chart {
            title: "a < b".into(),
            unit: "ms",
            bars: vec![("Onelane".into(), 2.0), ("other".into(), 4.0)],
        };
        let picture = draw(&[chart], "here");
        assert!(picture.contains("width=\"360.0\"") && picture.contains("width=\"180.0\""));
        assert!(picture.contains("a &lt; b (ms)") && picture.ends_with("</svg>\n"));
    }
}
