//! Output: text lines for people, JSON for programs, progress bars on a terminal.

use std::io::{self, IsTerminal as _, Write as _};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::Value;

pub struct Output {
    json: bool,
}

impl Output {
    pub const fn new(json: bool) -> Self {
        Self { json }
    }

    pub const fn is_json(&self) -> bool {
        self.json
    }

    /// Prints one result: as JSON, or as the lines that `people` returns. The reader may be gone, as with `head`; the result stays the
    /// same.
    pub fn result(&self, value: &Value, people: impl FnOnce() -> String) -> io::Result<()> {
        let text = if self.json { value.to_string() } else { people() };
        match writeln!(io::stdout().lock(), "{text}") {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            written => written,
        }
    }

    /// Prints a message that is not a result.
    pub fn note(&self, text: &str) {
        eprintln!("{text}");
    }

    /// A progress bar over `total` events, only on a terminal.
    pub fn progress(&self, what: &str, total: i64) -> ProgressBar {
        let bar = ProgressBar::new(steps(total));
        let hidden = self.json || !std::io::stderr().is_terminal();
        bar.set_draw_target(if hidden { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() });
        let template = "{msg:18} {bar:30} {percent:>3} %  {human_pos} of {human_len}  {per_sec}  {eta} left";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_message(what.to_owned());
        bar
    }
}

/// The steps of a progress bar at a position; the bar begins at zero.
pub fn steps(position: i64) -> u64 {
    position.max(0).cast_unsigned()
}
