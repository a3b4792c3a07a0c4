//! Bar charts in panels, as SVG, and the directory for them.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::{env, fs};

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

/// Bars that share a unit and a scale.
pub struct Panel {
    /// The title above the bars, including the unit.
    pub title: String,
    /// From top to bottom.
    pub bars: Vec<Bar>,
}

/// One value.
pub struct Bar {
    /// The label to the left of the bar.
    pub label: String,
    /// How long the bar is.
    pub value: f64,
    /// The text to the right of the bar.
    pub shown: String,
    /// Whether it is highlighted.
    pub ours: bool,
}

/// Draws the panels in two columns into an SVG file.
pub fn draw(path: &Path, title: &str, panels: &[Panel]) -> Result<(), Box<dyn Error>> {
    let most = panels
        .iter()
        .map(|panel| panel.bars.len())
        .max()
        .unwrap_or(0) as i32;
    let panel_height = most * ROW + 60;
    let rows = panels.len().div_ceil(COLUMNS);
    let height = TITLE + panel_height * rows as i32;
    let size = (PANEL_WIDTH as u32 * COLUMNS as u32, height as u32);
    let root = SVGBackend::new(path, size).into_drawing_area();
    root.fill(&WHITE)?;
    root.draw(&Text::new(title, (20, 16), ("sans-serif", 20)))?;
    let grid = root.margin(TITLE, 0, 0, 0).split_evenly((rows, COLUMNS));
    for (area, panel) in grid.iter().zip(panels) {
        area.draw(&Text::new(
            panel.title.as_str(),
            (20, 10),
            ("sans-serif", 15),
        ))?;
        let longest = panel
            .bars
            .iter()
            .map(|bar| bar.value)
            .fold(f64::MIN_POSITIVE, f64::max);
        for (i, bar) in panel.bars.iter().enumerate() {
            let top = 36 + i as i32 * ROW;
            let middle = top + ROW / 2 - 2;
            let end = BARS_FROM + (bar.value / longest * f64::from(BARS_WIDTH)) as i32;
            let color = if bar.ours {
                RGBColor(0x1f, 0x6f, 0xb4)
            } else {
                RGBColor(0xb0, 0xb0, 0xb0)
            };
            let style = ("sans-serif", 13).into_text_style(area);
            let label = style.pos(Pos::new(HPos::Right, VPos::Center));
            let shown = style.pos(Pos::new(HPos::Left, VPos::Center));
            area.draw(&Text::new(
                bar.label.as_str(),
                (BARS_FROM - 8, middle),
                label,
            ))?;
            area.draw(&Rectangle::new(
                [(BARS_FROM, top), (end, top + ROW - 5)],
                color.filled(),
            ))?;
            area.draw(&Text::new(bar.shown.as_str(), (end + 6, middle), shown))?;
        }
    }
    root.present()?;
    Ok(())
}

/// `target/report/`, wherever cargo put `target/release/` with this program.
pub fn folder() -> Result<PathBuf, Box<dyn Error>> {
    let program = env::current_exe()?;
    let target = program
        .ancestors()
        .nth(2)
        .ok_or("a program outside a target folder")?;
    let folder = target.join("report");
    fs::create_dir_all(&folder)?;
    Ok(folder)
}

const COLUMNS: usize = 2;
const PANEL_WIDTH: i32 = 520;
const TITLE: i32 = 50;
const ROW: i32 = 24;
const BARS_FROM: i32 = 190;
const BARS_WIDTH: i32 = 230;
