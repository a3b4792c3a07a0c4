use std::fmt;

/// A row of the table that [`Stats`](super::Stats) is printed as.
#[derive(Clone)]
pub(super) struct Row {
    pub(super) title: &'static str,
    /// Names, in which `_` stands for a space, and counts.
    pub(super) cells: Vec<(&'static str, u64)>,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_title(f, self.title)?;
        for (i, (name, count)) in self.cells.iter().enumerate() {
            let (comma, name) = (if i == 0 { "" } else { "," }, name.replace('_', " "));
            write!(f, "{comma} {name} {count}")?;
        }
        writeln!(f)
    }
}

pub(super) fn write_title(f: &mut fmt::Formatter<'_>, title: &str) -> fmt::Result {
    write!(f, "{title:<13}")
}
