//! What the tiny model is taught to know: short questions, each asked in several ways, with one answer.

/// Facts about the project itself: ways to ask, answer.
pub(super) const COCOON: &[(&[&str], &str)] = &[
    (
        &[
            "What is Cocoon?",
            "Tell me about Cocoon.",
            "Explain Cocoon.",
            "What does Cocoon do?",
            "Describe Cocoon in one sentence.",
        ],
        "Cocoon is an open network for confidential AI computing on the TON blockchain.",
    ),
    (
        &[
            "What does Cocoon stand for?",
            "What does the name Cocoon mean?",
            "Where does the name Cocoon come from?",
        ],
        "Cocoon stands for Confidential Compute Open Network.",
    ),
    (
        &[
            "What is a worker?",
            "What does a worker do in Cocoon?",
            "Explain the worker.",
        ],
        "A worker is a machine that runs models for the network and earns TON.",
    ),
    (
        &[
            "What is a proxy?",
            "What does a proxy do in Cocoon?",
            "Explain the proxy.",
        ],
        "A proxy matches clients with workers and keeps the books.",
    ),
    (
        &[
            "What is a client?",
            "What does a client do in Cocoon?",
            "Explain the client.",
        ],
        "A client gives developers an OpenAI-compatible endpoint on their own machine.",
    ),
    (
        &[
            "Who can read my prompts?",
            "Can anyone read my prompt?",
            "Are my prompts private?",
            "Is Cocoon private?",
        ],
        "Your prompts exist in clear only inside attested confidential machines.",
    ),
    (
        &[
            "How are workers paid?",
            "How do workers earn money?",
            "How is an answer paid for?",
            "How does payment work?",
        ],
        "Every token is counted, and contracts on TON pay the worker.",
    ),
    (
        &["What is TON?", "Tell me about TON.", "Explain TON."],
        "TON is a blockchain. Cocoon uses it to settle payments.",
    ),
    (
        &[
            "What is attestation?",
            "Explain attestation.",
            "What does attestation mean?",
        ],
        "Attestation is proof of what software runs inside a machine.",
    ),
    (
        &["What is RA-TLS?", "Explain RA-TLS."],
        "RA-TLS is TLS in which each side proves what software it runs.",
    ),
    (
        &[
            "Who are you?",
            "What are you?",
            "What is your name?",
            "Tell me about yourself.",
            "Introduce yourself.",
        ],
        "I am the Cocoon tiny model, a toy language model with about two million parameters.",
    ),
    (
        &[
            "Who made you?",
            "Who trained you?",
            "Where do you come from?",
            "How were you made?",
        ],
        "The Cocoon project trained me from nothing on text that it wrote itself.",
    ),
    (
        &[
            "What can you do?",
            "How can you help me?",
            "What do you know?",
            "Help",
        ],
        "I can add small numbers, count, spell, copy words, tell short stories and talk about Cocoon.",
    ),
    (
        &[
            "Are you a large model?",
            "How big are you?",
            "How many parameters do you have?",
            "How large are you?",
        ],
        "No, I am very small: about two million parameters. I am a toy.",
    ),
    (
        &[
            "Are you always right?",
            "Can I trust you?",
            "Do you make mistakes?",
        ],
        "I am a toy and I often make mistakes.",
    ),
    (
        &[
            "What language is Cocoon written in?",
            "Is Cocoon written in Rust?",
            "Which language is this Cocoon written in?",
        ],
        "This Cocoon is written in Rust.",
    ),
    (
        &["Can Cocoon train models?", "Does Cocoon do training?"],
        "Yes. Cocoon is for training as well as inference.",
    ),
    (
        &["What is a token?", "Explain tokens.", "What are tokens?"],
        "A token is a small piece of text. Models read and write tokens.",
    ),
    (
        &[
            "What is a smart contract?",
            "Explain smart contracts.",
            "What is a contract?",
        ],
        "A contract is a program on the blockchain that holds money and follows rules.",
    ),
    (
        &["What is the root contract?", "Explain the root contract."],
        "The root contract lists the images, models and proxies that the network allows.",
    ),
    (
        &["What is a signed payment?", "Explain signed payments."],
        "A signed payment is a promise of the proxy that the contract can check.",
    ),
    (
        &["What is a blockchain?", "Explain blockchains."],
        "A blockchain is a shared book of transactions that nobody can rewrite.",
    ),
    (
        &["What is a GPU?", "Explain GPUs."],
        "A GPU is a chip that does many calculations at once.",
    ),
    (
        &["What is a language model?", "Explain language models."],
        "A language model is a program that predicts the next token of a text.",
    ),
    (
        &["What is Rust?", "Tell me about Rust."],
        "Rust is a programming language that is fast and safe.",
    ),
    (
        &[
            "Why should I use Cocoon?",
            "What is Cocoon good for?",
            "Why Cocoon?",
        ],
        "With Cocoon you get answers from models without showing your data to anyone.",
    ),
    (
        &[
            "Can I get my money back?",
            "Can I withdraw my balance?",
            "Is my money safe?",
        ],
        "Yes. You can always take back what you have not spent.",
    ),
    (
        &[
            "Which API does Cocoon have?",
            "How do I call Cocoon?",
            "Is there an API?",
        ],
        "Cocoon speaks the OpenAI API, so your programs work unchanged.",
    ),
];

/// Capitals of countries.
pub(super) const CAPITALS: &[(&str, &str)] = &[
    ("France", "Paris"),
    ("Germany", "Berlin"),
    ("Italy", "Rome"),
    ("Spain", "Madrid"),
    ("Japan", "Tokyo"),
    ("China", "Beijing"),
    ("India", "Delhi"),
    ("Egypt", "Cairo"),
    ("Greece", "Athens"),
    ("England", "London"),
    ("Norway", "Oslo"),
    ("Poland", "Warsaw"),
    ("Austria", "Vienna"),
    ("Kenya", "Nairobi"),
    ("Peru", "Lima"),
    ("Cuba", "Havana"),
];

/// Opposites, in both directions.
pub(super) const OPPOSITES: &[(&str, &str)] = &[
    ("hot", "cold"),
    ("big", "small"),
    ("up", "down"),
    ("day", "night"),
    ("open", "closed"),
    ("fast", "slow"),
    ("old", "new"),
    ("happy", "sad"),
    ("left", "right"),
    ("wet", "dry"),
    ("black", "white"),
    ("loud", "quiet"),
];

/// Colours of well-known things.
pub(super) const COLOURS: &[(&str, &str)] = &[
    ("the sky", "blue"),
    ("grass", "green"),
    ("snow", "white"),
    ("the sun", "yellow"),
    ("a tomato", "red"),
    ("coal", "black"),
    ("a lemon", "yellow"),
    ("an orange", "orange"),
];

/// What animals say.
pub(super) const SOUNDS: &[(&str, &str)] = &[
    ("dog", "woof"),
    ("cat", "meow"),
    ("cow", "moo"),
    ("duck", "quack"),
    ("sheep", "baa"),
    ("frog", "ribbit"),
    ("bee", "buzz"),
    ("owl", "hoot"),
];

/// Words for spelling, copying and reversing.
pub(super) const WORDS: &[&str] = &[
    "cat", "dog", "sun", "moon", "star", "tree", "fish", "bird", "book", "lamp", "rain", "snow",
    "wind", "leaf", "stone", "river", "house", "green", "blue", "red", "apple", "bread", "water",
    "light", "token", "model", "proxy", "worker", "client", "cocoon", "silk", "moth", "rust",
    "chain", "block", "coin", "key", "test", "hello", "world", "music", "paper", "cloud", "garden",
    "train", "ship", "king", "queen", "salt", "honey",
];

/// Days of the week in order.
pub(super) const DAYS: &[&str] = &[
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
    "Sunday",
];

/// Months in order.
pub(super) const MONTHS: &[&str] = &[
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// Things that the model is taught not to know.
pub(super) const UNKNOWN: &[&str] = &[
    "the weather",
    "the news",
    "football",
    "cooking soup",
    "my taxes",
    "the stock market",
    "history",
    "chemistry",
    "politics",
    "films",
    "the law",
    "medicine",
    "physics",
    "philosophy",
    "my garden",
    "poetry",
    "cars",
    "space travel",
    "databases",
    "compilers",
    "the future",
    "lottery numbers",
    "quantum mechanics",
    "biology",
    "art",
];
