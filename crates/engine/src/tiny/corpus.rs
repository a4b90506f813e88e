//! The tiny model's training data: a deterministic generator of short ChatML conversations.
//!
//! The same seed gives the same conversations on every machine: only integer draws from ChaCha are used.

use super::facts::{CAPITALS, COCOON, COLOURS, DAYS, MONTHS, OPPOSITES, SOUNDS, UNKNOWN, WORDS};
use super::stories;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Opens a turn.
pub const IM_START: &str = "<|im_start|>";
/// Closes a turn; the model's end of answer.
pub const IM_END: &str = "<|im_end|>";
/// Separates conversations.
pub const END_OF_TEXT: &str = "<|endoftext|>";

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// `system`, `user` or `assistant`.
    pub role: &'static str,
    /// The text.
    pub content: String,
}

/// One conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conversation {
    /// Turns in order; the last is the assistant's.
    pub turns: Vec<Turn>,
}

impl Conversation {
    /// The conversation as the model sees it, without the separator that follows.
    pub fn chatml(&self) -> String {
        self.turns
            .iter()
            .map(|t| format!("{IM_START}{}\n{}{IM_END}\n", t.role, t.content))
            .collect()
    }
}

/// An endless, seeded source of conversations.
pub struct Corpus {
    rng: ChaCha8Rng,
    mix: Mix,
}

/// What the conversations are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mix {
    /// Everything, with long counts and many stories: teaches the language.
    Broad,
    /// More and smaller sums, shorter counts, fewer stories: teaches what has one right answer.
    Focused,
    /// Mostly counts, for where to stop is what is learned last.
    Counting,
}

impl Corpus {
    /// A generator; equal seeds give equal conversations.
    pub fn new(seed: u64, mix: Mix) -> Self {
        Self {
            rng: ChaCha8Rng::seed_from_u64(seed),
            mix,
        }
    }

    /// The next conversation.
    pub fn conversation(&mut self) -> Conversation {
        let rng = &mut self.rng;
        let mut turns = Vec::new();
        if rng.random_range(0..4) == 0 {
            let system = pick(
                rng,
                &[
                    "You are a helpful assistant.",
                    "You are the Cocoon tiny model.",
                    "Answer briefly.",
                    "You are a helpful and honest assistant. Answer briefly.",
                ],
            );
            turns.push(Turn {
                role: "system",
                content: system.to_owned(),
            });
        }
        let rounds = match rng.random_range(0..10) {
            0..=6 => 1,
            7..=8 => 2,
            _ => 3,
        };
        for _ in 0..rounds {
            let (question, answer) = exchange(rng, self.mix);
            turns.push(Turn {
                role: "user",
                content: question,
            });
            turns.push(Turn {
                role: "assistant",
                content: answer,
            });
        }
        Conversation { turns }
    }
}

fn pick<T: Copy>(rng: &mut ChaCha8Rng, from: &[T]) -> T {
    from[rng.random_range(0..from.len())]
}

fn word(rng: &mut ChaCha8Rng) -> &'static str {
    pick(rng, WORDS)
}

fn exchange(rng: &mut ChaCha8Rng, mix: Mix) -> (String, String) {
    // Upper ends of the shares of: sums, counts, greetings, Cocoon, spelling, copying, general facts, stories.
    let shares: [u32; 8] = match mix {
        Mix::Broad => [28, 38, 46, 66, 72, 80, 88, 96],
        Mix::Focused => [45, 57, 62, 76, 82, 90, 95, 98],
        Mix::Counting => [20, 75, 78, 86, 89, 93, 96, 98],
    };
    let draw = rng.random_range(0..100);
    match shares.iter().position(|end| draw < *end) {
        Some(0) => sum(rng, mix),
        Some(1) => count(rng, mix),
        Some(2) => greeting(rng),
        Some(3) => cocoon(rng),
        Some(4) => spelling(rng),
        Some(5) => copying(rng),
        Some(6) => general(rng),
        Some(7) => stories::story(rng),
        _ => unknown(rng),
    }
}

fn sum(rng: &mut ChaCha8Rng, mix: Mix) -> (String, String) {
    let kind = rng.random_range(0..10);
    let largest = if mix != Mix::Broad && rng.random_range(0..5) > 0 {
        12
    } else {
        20
    };
    let (a, b) = (rng.random_range(0..=largest), rng.random_range(0..=largest));
    let (left, sign, right, result) = match kind {
        0..=6 => (a, '+', b, a + b),
        7..=8 => (a.max(b), '-', a.min(b), a.max(b) - a.min(b)),
        _ => (a % 11, '*', b % 11, (a % 11) * (b % 11)),
    };
    let text = match (sign, rng.random_range(0..8)) {
        ('+', 6) => format!("What is {left} plus {right}?"),
        ('-', 6) => format!("What is {left} minus {right}?"),
        ('*', 6) => format!("What is {left} times {right}?"),
        ('+', 7) => format!("Add {left} and {right}."),
        (_, 0..=3) => format!("What is {left} {sign} {right}?"),
        (_, 4) => format!("{left}{sign}{right}="),
        _ => format!("{left} {sign} {right} = ?"),
    };
    (text, format!("{left} {sign} {right} = {result}."))
}

/// Longest count that the generator writes out.
const LONGEST_COUNT: u32 = 60;

fn count(rng: &mut ChaCha8Rng, mix: Mix) -> (String, String) {
    let join = |numbers: Vec<u32>| {
        numbers
            .iter()
            .map(u32::to_string)
            .collect::<Vec<_>>()
            .join(", ")
    };
    match rng.random_range(0..10) {
        0..=5 => {
            let long = if mix != Mix::Broad { 15 } else { 5 };
            let to = if rng.random_range(0..long) == 0 {
                rng.random_range(20..=LONGEST_COUNT)
            } else {
                rng.random_range(2..=20)
            };
            let question = match rng.random_range(0..4) {
                0 => format!("Count to {to}."),
                1 => format!("Count from 1 to {to}."),
                2 => format!("Please count to {to}"),
                _ => format!("Can you count to {to}?"),
            };
            (question, join((1..=to).collect()))
        }
        6..=7 => {
            let from = rng.random_range(1..=LONGEST_COUNT - 12);
            let to = from + rng.random_range(2..=12);
            (
                format!("Count from {from} to {to}."),
                join((from..=to).collect()),
            )
        }
        8 => {
            let from = rng.random_range(3..=20);
            (
                format!("Count down from {from}."),
                join((0..=from).rev().collect()),
            )
        }
        _ => {
            let n = rng.random_range(0..=LONGEST_COUNT);
            (
                format!("What comes after {n}?"),
                format!("After {n} comes {}.", n + 1),
            )
        }
    }
}

fn greeting(rng: &mut ChaCha8Rng) -> (String, String) {
    const PAIRS: &[(&[&str], &str)] = &[
        (
            &[
                "Hello",
                "Hello!",
                "Hi",
                "Hi!",
                "Hi there",
                "Hey",
                "hello",
                "hi",
                "Hello there!",
                "Say hello.",
                "Say hi.",
                "Greet me.",
            ],
            "Hello! I am the Cocoon tiny model. How can I help you?",
        ),
        (
            &["Good morning!", "Good morning"],
            "Good morning! How can I help you?",
        ),
        (
            &["Good evening!", "Good evening"],
            "Good evening! How can I help you?",
        ),
        (
            &["How are you?", "How are you today?", "How do you do?"],
            "I am well, thank you. How can I help you?",
        ),
        (
            &["Thank you!", "Thanks", "Thank you", "Thanks!"],
            "You are welcome!",
        ),
        (
            &["Goodbye", "Goodbye!", "Bye", "See you!", "Bye!"],
            "Goodbye! Come back soon.",
        ),
    ];
    let (ways, answer) = PAIRS[if rng.random_range(0..2) == 0 {
        0
    } else {
        rng.random_range(0..PAIRS.len())
    }];
    (pick(rng, ways).to_owned(), answer.to_owned())
}

fn cocoon(rng: &mut ChaCha8Rng) -> (String, String) {
    let (ways, answer) = COCOON[rng.random_range(0..COCOON.len())];
    let question = pick(rng, ways);
    let question = match rng.random_range(0..8) {
        0 => question.to_lowercase(),
        1 => format!("Please answer: {question}"),
        2 => question.trim_end_matches(['?', '.']).to_owned(),
        _ => question.to_owned(),
    };
    (question, answer.to_owned())
}

fn letters(word: &str) -> String {
    word.chars()
        .map(|c| c.to_uppercase().to_string())
        .collect::<Vec<_>>()
        .join("-")
}

fn spelling(rng: &mut ChaCha8Rng) -> (String, String) {
    let w = word(rng);
    match rng.random_range(0..4) {
        0..=1 => (format!("Spell {w}."), letters(w)),
        2 => (format!("How do you spell {w}?"), letters(w)),
        _ => (
            format!("How many letters has {w}?"),
            format!("The word {w} has {} letters.", w.chars().count()),
        ),
    }
}

fn copying(rng: &mut ChaCha8Rng) -> (String, String) {
    let n = rng.random_range(1..=5);
    let words = (0..n).map(|_| word(rng)).collect::<Vec<_>>().join(" ");
    let question = match rng.random_range(0..4) {
        0 => format!("Repeat: {words}"),
        1 => format!("Repeat after me: {words}"),
        2 => format!("Say {words}"),
        _ => format!("Copy this: {words}"),
    };
    (question, words)
}

fn general(rng: &mut ChaCha8Rng) -> (String, String) {
    match rng.random_range(0..6) {
        0 => {
            let (country, city) = pick(rng, CAPITALS);
            (
                format!("What is the capital of {country}?"),
                format!("The capital of {country} is {city}."),
            )
        }
        1 => {
            let (a, b) = pick(rng, OPPOSITES);
            let (a, b) = if rng.random_range(0..2) == 0 {
                (a, b)
            } else {
                (b, a)
            };
            (
                format!("What is the opposite of {a}?"),
                format!("The opposite of {a} is {b}."),
            )
        }
        2 => {
            let (thing, colour) = pick(rng, COLOURS);
            (
                format!("What colour is {thing}?"),
                format!("{} is {colour}.", capital(thing)),
            )
        }
        3 => {
            let (animal, sound) = pick(rng, SOUNDS);
            (
                format!("What does a {animal} say?"),
                format!("A {animal} says {sound}."),
            )
        }
        4 => {
            let i = rng.random_range(0..DAYS.len());
            (
                format!("Which day comes after {}?", DAYS[i]),
                format!("After {} comes {}.", DAYS[i], DAYS[(i + 1) % DAYS.len()]),
            )
        }
        _ => {
            let i = rng.random_range(0..MONTHS.len());
            (
                format!("Which month comes after {}?", MONTHS[i]),
                format!(
                    "After {} comes {}.",
                    MONTHS[i],
                    MONTHS[(i + 1) % MONTHS.len()]
                ),
            )
        }
    }
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |c| {
        c.to_uppercase().collect::<String>() + chars.as_str()
    })
}

fn unknown(rng: &mut ChaCha8Rng) -> (String, String) {
    let topic = pick(rng, UNKNOWN);
    let question = match rng.random_range(0..5) {
        0 => format!("What do you think about {topic}?"),
        1 => format!("Tell me about {topic}."),
        2 => format!("Write an essay about {topic}."),
        3 => format!("Explain {topic} to me, please."),
        _ => format!("Can you help me with {topic}?"),
    };
    (
        question,
        "I am a very small model and do not know that. Ask me about Cocoon, sums or counting."
            .to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_seeds_give_equal_conversations_and_others_do_not() {
        let draw = |seed| {
            let mut corpus = Corpus::new(seed, Mix::Broad);
            (0..50)
                .map(|_| corpus.conversation().chatml())
                .collect::<String>()
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }

    #[test]
    fn a_conversation_ends_with_the_assistant_and_is_plain_text_inside() {
        let mut corpus = Corpus::new(3, Mix::Focused);
        for _ in 0..500 {
            let conversation = corpus.conversation();
            assert_eq!(conversation.turns.last().map(|t| t.role), Some("assistant"));
            assert!(
                conversation
                    .turns
                    .iter()
                    .all(|t| !t.content.contains("<|") && !t.content.is_empty())
            );
        }
    }
}
