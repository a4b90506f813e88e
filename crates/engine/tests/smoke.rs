//! A few steps of training lower the loss, and what is written can be loaded and run.

use cocoon_engine::tiny::recipe::Recipe;
use cocoon_engine::tiny::{Trainer, export, train_tokenizer};
use cocoon_engine::{EmbeddedEngine, EngineOptions};

#[test]
fn the_loss_falls_and_the_model_can_be_loaded() {
    let mut recipe = Recipe::smoke(5, 10);
    recipe.tokenizer_conversations = 600;
    recipe.tokens_per_step = 384;
    recipe.peak_rate = 1e-2;
    recipe.warmup = 1;
    let tokenizer = train_tokenizer(&recipe).unwrap();
    let again = train_tokenizer(&recipe).unwrap();
    assert_eq!(
        tokenizer.to_string(false).unwrap(),
        again.to_string(false).unwrap(),
        "the tokenizer is deterministic"
    );
    assert!((1000..=recipe.vocab_size).contains(&tokenizer.get_vocab_size(true)));

    let mut trainer = Trainer::new(recipe.clone(), tokenizer).unwrap();
    let mut twin = Trainer::new(recipe, again).unwrap();
    let first = trainer.train_step().unwrap();
    assert_eq!(
        first.loss,
        twin.train_step().unwrap().loss,
        "equal seeds start equally"
    );
    let mut last = first;
    while !trainer.finished() {
        last = trainer.train_step().unwrap();
    }
    assert!(
        (first.loss - (1536f32).ln()).abs() < 0.3,
        "an untrained model knows nothing: {}",
        first.loss
    );
    assert!(
        last.loss < first.loss * 0.9,
        "{} -> {}",
        first.loss,
        last.loss
    );

    let dir = tempfile::tempdir().unwrap();
    let hash = export(&trainer, dir.path()).unwrap();
    assert_eq!(hash.len(), 64);
    let engine = EmbeddedEngine::load(
        dir.path(),
        EngineOptions {
            name: Some("smoke".into()),
            ..Default::default()
        },
    )
    .unwrap();
    assert_eq!(engine.capacity().context, 1024);
}
