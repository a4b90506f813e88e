//! Ends an answer at the first of the caller's stop strings, also when it comes in several pieces.

/// Most stop strings of a request. OpenAI allows four; local engines more.
pub const MAX_STOPS: usize = 16;
/// Longest stop string in bytes. Text of up to this length is held back from a stream.
pub const MAX_STOP_BYTES: usize = 256;

/// Watches the text of one answer.
pub struct StopMatcher {
    stops: Vec<String>,
    held: String,
}

impl StopMatcher {
    /// `stops` must not contain empty strings.
    pub fn new(stops: Vec<String>) -> Self {
        Self {
            stops,
            held: String::new(),
        }
    }

    /// Adds text; returns what may be shown, and whether a stop string was met (it is not shown).
    pub fn push(&mut self, text: &str) -> (String, bool) {
        if self.stops.is_empty() {
            return (text.to_owned(), false);
        }
        self.held.push_str(text);
        if let Some(at) = self
            .stops
            .iter()
            .filter_map(|stop| self.held.find(stop.as_str()))
            .min()
        {
            self.held.truncate(at);
            return (std::mem::take(&mut self.held), true);
        }
        // The end of the text may be the start of a stop string: keep the longest such end.
        let keep = self
            .held
            .char_indices()
            .map(|(at, _)| at)
            .find(|at| {
                self.stops
                    .iter()
                    .any(|stop| stop.starts_with(&self.held[*at..]))
            })
            .unwrap_or(self.held.len());
        let rest = self.held.split_off(keep);
        (std::mem::replace(&mut self.held, rest), false)
    }

    /// The text that was held back and turned out to be no stop string.
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(stops: &[&str], pieces: &[&str]) -> (String, bool) {
        let mut matcher = StopMatcher::new(stops.iter().map(|s| (*s).to_owned()).collect());
        let mut shown = String::new();
        for piece in pieces {
            let (text, stopped) = matcher.push(piece);
            shown += &text;
            if stopped {
                return (shown, true);
            }
        }
        (shown + &matcher.finish(), false)
    }

    #[test]
    fn stops_across_pieces() {
        assert_eq!(
            run(&["END"], &["abc E", "N", "D def"]),
            ("abc ".into(), true)
        );
        assert_eq!(
            run(&["END"], &["abc E", "NE", "END"]),
            ("abc ENE".into(), true)
        );
        assert_eq!(run(&["END"], &["abc E", "N"]), ("abc EN".into(), false));
    }

    #[test]
    fn the_earliest_stop_wins_and_characters_stay_whole() {
        assert_eq!(run(&["c", "b"], &["äbc"]), ("ä".into(), true));
        assert_eq!(run(&["éé"], &["aé", "b"]), ("aéb".into(), false));
        assert_eq!(run(&[], &["a", "b"]), ("ab".into(), false));
    }

    #[test]
    fn nothing_that_cannot_be_a_stop_is_held() {
        let mut matcher = StopMatcher::new(vec!["xyz".into()]);
        assert_eq!(matcher.push("hello xy"), ("hello ".into(), false));
        assert_eq!(matcher.push("a"), ("xya".into(), false));
    }
}
