//! Text and tokens of the shipped tokenizer: nothing is lost, nothing is broken in the middle.

mod common;

use cocoon_engine::detok::Detokenizer;
use cocoon_engine::text::Text;

fn text() -> Text {
    Text::load(&common::model_dir(), 1536).unwrap()
}

#[test]
fn every_text_survives_tokens_and_comes_out_in_whole_characters() {
    let text = text();
    for sample in [
        "Hello world",
        "  two  spaces\n\ttab",
        "Grüße, Jürgen ✓ 日本語 🦀🦀",
        "e\u{301}",
        "",
        "1234567 + 89",
    ] {
        let ids = text.encode(sample, false).unwrap();
        assert_eq!(text.decode(&ids), sample);
        let mut detokenizer = Detokenizer::default();
        let mut pieces: Vec<String> = ids.iter().map(|id| detokenizer.push(&text, *id)).collect();
        assert!(pieces.iter().all(|p| !p.contains('\u{fffd}')), "{pieces:?}");
        pieces.push(detokenizer.finish(&text));
        assert_eq!(pieces.concat(), sample);
        let bytes: Vec<u8> = ids.iter().flat_map(|id| text.token_bytes(*id)).collect();
        assert_eq!(bytes, sample.as_bytes());
    }
}

#[test]
fn broken_characters_are_replaced_and_do_not_wait_for_ever() {
    let text = text();
    let crab = text.encode("🦀", false).unwrap();
    assert!(crab.len() > 1, "the crab is several byte tokens");
    let mut detokenizer = Detokenizer::default();
    assert_eq!(detokenizer.push(&text, crab[0]), "");
    assert!(detokenizer.finish(&text).contains('\u{fffd}'));
    let mut detokenizer = Detokenizer::default();
    let shown: String = (0..40).map(|_| detokenizer.push(&text, crab[0])).collect();
    assert!(shown.chars().count() > 10);
}

#[test]
fn special_tokens_are_markup() {
    let text = text();
    let ids = text
        .encode("<|im_start|>user\nHi<|im_end|>", false)
        .unwrap();
    assert_eq!((ids[0], ids[ids.len() - 1]), (1, 2));
    assert!(text.is_special(1) && !text.is_special(ids[1]));
    assert_eq!(text.decode(&ids), "user\nHi");
}
