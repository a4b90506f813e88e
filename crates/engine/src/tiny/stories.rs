//! Short stories for the tiny model, put together from a handful of parts.

use rand::Rng;
use rand_chacha::ChaCha8Rng;

const NAMES: &[&str] = &[
    "Ada", "Ben", "Cleo", "Dan", "Eva", "Finn", "Gus", "Ida", "Leo", "Mia", "Noa", "Tom",
];
const KINDS: &[&str] = &["cat", "dog", "fox", "bear", "mouse", "bird", "moth", "frog"];
const MOODS: &[&str] = &["small", "brave", "happy", "quiet", "old", "clever"];
const PLACES: &[&str] = &[
    "the forest",
    "the garden",
    "the river",
    "the hill",
    "the village",
    "the sea",
];
const THINGS: &[&str] = &["a key", "a lamp", "a book", "a stone", "a coin", "a map"];
const FRIENDS: &[&str] = &[
    "an owl", "a bee", "a snail", "a duck", "a sheep", "a worker",
];

/// A request for a story, and the story.
pub(super) fn story(rng: &mut ChaCha8Rng) -> (String, String) {
    let mut pick = |from: &'static [&'static str]| from[rng.random_range(0..from.len())];
    let (name, kind, mood, place) = (pick(NAMES), pick(KINDS), pick(MOODS), pick(PLACES));
    let (thing, friend) = (pick(THINGS), pick(FRIENDS));
    let bare = thing.trim_start_matches("a ");
    let friend_bare = friend.trim_start_matches("an ").trim_start_matches("a ");
    let question = match rng.random_range(0..6) {
        0 => "Tell me a story.".to_owned(),
        1 => "Tell me a short story.".to_owned(),
        2 => "Write a story.".to_owned(),
        3 => format!("Tell me a story about a {kind}."),
        4 => format!("Write a short story about a {mood} {kind}."),
        _ => format!("Tell me a story about {name} the {kind}."),
    };
    let middle = match rng.random_range(0..3) {
        0 => format!(
            "The {friend_bare} had lost {thing}. {name} looked for the {bare} all day and found it."
        ),
        1 => format!("They found {thing} and carried the {bare} home together."),
        _ => format!("The {friend_bare} was sad, so {name} gave the {friend_bare} {thing}."),
    };
    let end = match rng.random_range(0..3) {
        0 => format!("From that day, {name} and the {friend_bare} were friends."),
        1 => format!("In the evening {name} slept well."),
        _ => format!("The {friend_bare} said thank you, and {name} was happy."),
    };
    let story = format!(
        "Once upon a time there was a {mood} {kind} named {name}. One day {name} went to {place} and met {friend}. {middle} {end}"
    );
    (question, story)
}
