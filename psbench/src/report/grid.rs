//! The look of all tables.

use std::env;
use std::io::{IsTerminal, stdout};

use comfy_table::{Attribute, Cell, CellAlignment, LineStyle, Table, TableStyle};

/// No lines but one below the titles: columns stay narrow, and cells can be cut out.
const STYLE: TableStyle = TableStyle::new().header_separator(LineStyle::none().fill('─'));

/// Between columns.
pub(super) const GAP: u16 = 2;

/// Columns of the terminal at standard output; absent where that is none.
pub(super) fn terminal_width() -> Option<u16> {
    Table::new().width().filter(|width| *width > 0)
}

/// Columns of the terminal at standard error, likewise.
pub(super) fn error_terminal_width() -> Option<u16> {
    Table::new().use_stderr().width().filter(|width| *width > 0)
}

/// Whether standard output is to have colours: only at a terminal, and not where `NO_COLOR` is set (<https://no-color.org>).
pub(super) fn coloured() -> bool {
    stdout().is_terminal() && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// An empty table with these titles: figures to the right, the columns in `left` to the left.
pub(super) fn grid(titles: &[&str], left: &[&str]) -> Table {
    let mut table = Table::new();
    if !coloured() {
        table.force_no_tty();
    }
    table.load_style(STYLE);
    table.set_header(titles.iter().map(|title| Cell::new(title).add_attribute(Attribute::Bold)));
    for (title, column) in titles.iter().zip(table.column_iter_mut()) {
        if !left.contains(title) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        let last = Some(title) == titles.last();
        column.set_padding((0, if last { 0 } else { GAP }));
    }
    table
}
