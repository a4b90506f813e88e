//! A byte at a time over one JSON value, remembering only where it is: no tree, no look-back, no copy.

/// The deepest nesting followed; deeper values pass unread. Real responses stay below ten levels.
pub const MAX_DEPTH: usize = 128;

/// The longest key kept for comparison (raw, with escapes); longer keys are none that we look for.
const MAX_KEY: usize = 64;

/// What one byte meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing of interest.
    More,
    /// This byte opens the object under the top-level key `usage`.
    UsageStart,
    /// This byte closes it.
    UsageEnd,
    /// This byte proves that one more choice of this value carries output.
    Content,
    /// This byte ends the value.
    Done,
    /// This byte cannot be there.
    Invalid,
    /// Nested deeper than [`MAX_DEPTH`].
    TooDeep,
}

/// The part a container plays on the paths we follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Top,
    Usage,
    /// `choices`
    Choices,
    /// `choices[i]`
    Choice,
    /// `choices[i].delta`
    Delta,
    /// `choices[i].delta.tool_calls`
    ToolCalls,
    Other,
}

#[derive(Debug, Clone, Copy)]
struct Frame {
    object: bool,
    role: Role,
    /// For [`Role::Choice`]: already reported as carrying output.
    counted: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Value,
    ValueOrEnd,
    Key,
    KeyOrEnd,
    Colon,
    CommaOrEnd,
    Text { key: bool, escaped: bool },
    Scalar,
}

/// The keys that matter, already combined with where they stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    Usage,
    Choices,
    Delta,
    ToolCalls,
    /// A string of output.
    Output,
    Other,
}

#[derive(Debug)]
pub(super) struct Scanner {
    state: State,
    stack: Vec<Frame>,
    key_text: Vec<u8>,
    key: Key,
}

impl Scanner {
    pub(super) fn new() -> Self {
        Self {
            state: State::Value,
            stack: Vec::new(),
            key_text: Vec::new(),
            key: Key::Other,
        }
    }

    pub(super) fn step(&mut self, byte: u8) -> Step {
        match self.state {
            State::Text { key, escaped } => self.in_text(byte, key, escaped),
            State::Scalar => {
                if matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'a'..=b'z' | b'E') {
                    return Step::More;
                }
                self.state = State::CommaOrEnd;
                self.between(byte)
            }
            _ => self.between(byte),
        }
    }

    fn in_text(&mut self, byte: u8, key: bool, escaped: bool) -> Step {
        // A raw control character in a string is not JSON; without this check a missing quote would swallow the
        // rest of the body.
        if byte < 0x20 {
            return Step::Invalid;
        }
        if byte == b'"' && !escaped {
            if key {
                self.key = self.classify_key();
                self.state = State::Colon;
            } else {
                self.state = State::CommaOrEnd;
            }
            return Step::More;
        }
        self.state = State::Text {
            key,
            escaped: byte == b'\\' && !escaped,
        };
        if key {
            if self.key_text.len() <= MAX_KEY {
                self.key_text.push(byte);
            }
            return Step::More;
        }
        if self.key == Key::Output {
            self.key = Key::Other;
            return self.output_seen();
        }
        Step::More
    }

    fn between(&mut self, byte: u8) -> Step {
        if matches!(byte, b' ' | b'\t' | b'\r' | b'\n') {
            return Step::More;
        }
        match (self.state, byte) {
            (State::KeyOrEnd, b'}') | (State::ValueOrEnd, b']') => self.close(byte),
            (State::CommaOrEnd, b'}' | b']') => self.close(byte),
            (State::CommaOrEnd, b',') => {
                let object = self.stack.last().is_some_and(|frame| frame.object);
                self.state = if object { State::Key } else { State::Value };
                Step::More
            }
            (State::KeyOrEnd | State::Key, b'"') => {
                self.key_text.clear();
                self.state = State::Text {
                    key: true,
                    escaped: false,
                };
                Step::More
            }
            (State::Colon, b':') => {
                self.state = State::Value;
                Step::More
            }
            (State::Value | State::ValueOrEnd, _) => self.value_starts(byte),
            _ => Step::Invalid,
        }
    }

    fn value_starts(&mut self, byte: u8) -> Step {
        let parent = self.stack.last().map(|frame| frame.role);
        let key = if self.stack.last().is_some_and(|frame| frame.object) {
            self.key
        } else {
            Key::Other
        };
        match byte {
            b'{' | b'[' => {
                if self.stack.len() >= MAX_DEPTH {
                    return Step::TooDeep;
                }
                let object = byte == b'{';
                let role = match (parent, key, object) {
                    (None, _, true) => Role::Top,
                    (Some(Role::Top), Key::Usage, true) => Role::Usage,
                    (Some(Role::Top), Key::Choices, false) => Role::Choices,
                    (Some(Role::Choices), _, true) => Role::Choice,
                    (Some(Role::Choice), Key::Delta, true) => Role::Delta,
                    (Some(Role::Delta), Key::ToolCalls, false) => Role::ToolCalls,
                    _ => Role::Other,
                };
                self.stack.push(Frame {
                    object,
                    role,
                    counted: false,
                });
                self.state = if object {
                    State::KeyOrEnd
                } else {
                    State::ValueOrEnd
                };
                match (role, parent) {
                    (Role::Usage, _) => Step::UsageStart,
                    (_, Some(Role::ToolCalls)) => self.output_seen(),
                    _ => Step::More,
                }
            }
            b'"' => {
                // A string directly in an array must not be taken for the key that led to the array.
                self.key = key;
                self.state = State::Text {
                    key: false,
                    escaped: false,
                };
                Step::More
            }
            b'-' | b'0'..=b'9' | b't' | b'f' | b'n' => {
                self.state = State::Scalar;
                Step::More
            }
            _ => Step::Invalid,
        }
    }

    fn close(&mut self, byte: u8) -> Step {
        let Some(frame) = self.stack.pop() else {
            return Step::Invalid;
        };
        if frame.object != (byte == b'}') {
            return Step::Invalid;
        }
        self.state = State::CommaOrEnd;
        if self.stack.is_empty() {
            Step::Done
        } else if frame.role == Role::Usage {
            Step::UsageEnd
        } else {
            Step::More
        }
    }

    fn output_seen(&mut self) -> Step {
        let choice = self
            .stack
            .iter_mut()
            .rev()
            .find(|frame| frame.role == Role::Choice);
        match choice {
            Some(frame) if !frame.counted => {
                frame.counted = true;
                Step::Content
            }
            _ => Step::More,
        }
    }

    fn classify_key(&self) -> Key {
        let Some(frame) = self.stack.last() else {
            return Key::Other;
        };
        if self.key_text.len() > MAX_KEY || matches!(frame.role, Role::Other | Role::Usage) {
            return Key::Other;
        }
        let unescaped;
        let key: &[u8] = if self.key_text.contains(&b'\\') {
            let quoted = [b"\"", self.key_text.as_slice(), b"\""].concat();
            unescaped = serde_json::from_slice::<String>(&quoted).unwrap_or_default();
            unescaped.as_bytes()
        } else {
            &self.key_text
        };
        match (frame.role, key) {
            (Role::Top, b"usage") => Key::Usage,
            (Role::Top, b"choices") => Key::Choices,
            (Role::Choice, b"delta") => Key::Delta,
            (Role::Choice, b"text") => Key::Output,
            (Role::Delta, b"tool_calls") => Key::ToolCalls,
            (Role::Delta, b"content" | b"reasoning_content" | b"reasoning" | b"refusal") => {
                Key::Output
            }
            _ => Key::Other,
        }
    }
}
