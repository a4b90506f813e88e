//! The tiny model's tokenizer: byte-level BPE, trained on the generated corpus.

use super::corpus::{Corpus, END_OF_TEXT, IM_END, IM_START, Mix};
use super::recipe::Recipe;
use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::{AddedToken, DecoderWrapper, Tokenizer};

/// Trains the tokenizer of a recipe. Equal recipes give equal tokenizers: counts do not depend on the order of
/// work, and ties are broken by token id.
pub fn train_tokenizer(recipe: &Recipe) -> Result<Tokenizer, tokenizers::Error> {
    let mut corpus = Corpus::new(recipe.seed, Mix::Broad);
    let mut texts = Vec::new();
    for _ in 0..recipe.tokenizer_conversations {
        texts.extend(
            corpus
                .conversation()
                .turns
                .into_iter()
                .map(|turn| turn.content),
        );
    }
    // Roles are outside the special tokens, so they should be tokens too.
    texts.extend(
        ["system\n", "user\n", "assistant\n"]
            .iter()
            .flat_map(|role| vec![(*role).to_owned(); 50]),
    );

    let special = |text: &str| AddedToken::from(text, true);
    let trainer = BpeTrainer::builder()
        .vocab_size(recipe.vocab_size)
        .min_frequency(0)
        .show_progress(false)
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .special_tokens(vec![
            special(END_OF_TEXT),
            special(IM_START),
            special(IM_END),
        ])
        .build();
    let mut tokenizer = Tokenizer::new(BPE::default());
    // One token a digit, so that sums are about digits and not about a thousand unrelated symbols.
    tokenizer.with_pre_tokenizer(Some(Sequence::new(vec![
        PreTokenizerWrapper::Digits(Digits::new(true)),
        PreTokenizerWrapper::ByteLevel(ByteLevel::new(false, false, true)),
    ])));
    tokenizer.with_decoder(Some(DecoderWrapper::ByteLevel(ByteLevel::default())));
    let mut trainer = TrainerWrapper::BpeTrainer(trainer);
    tokenizer.train(&mut trainer, texts.iter().map(String::as_str))?;
    Ok(tokenizer)
}
