//! Continuous batching: results that do not depend on company, limits, cancellation, slow readers.

mod common;

use cocoon_engine::batch::{BatchOptions, Event, FinishReason, Job, Scheduler, SubmitError};
use cocoon_engine::decoder::Decoder;
use cocoon_engine::sampler::Sampling;
use cocoon_engine::text::Text;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

fn scheduler(options: &BatchOptions) -> (Scheduler, Arc<Text>) {
    let dir = common::model_dir();
    let decoder = Decoder::load(&dir).unwrap();
    let text = Arc::new(Text::load(&dir, decoder.config().vocab_size).unwrap());
    (
        Scheduler::start(decoder, text.clone(), options).unwrap(),
        text,
    )
}

fn job(text: &Text, prompt: &str, max_tokens: usize) -> Job {
    Job {
        prompt: text
            .encode(
                &format!("<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n"),
                false,
            )
            .unwrap(),
        max_tokens,
        min_tokens: 0,
        end_tokens: vec![2],
        stops: Vec::new(),
        sampling: Sampling {
            temperature: 0.0,
            ..Sampling::default()
        },
    }
}

/// A job that does not end by itself.
fn endless(text: &Text, max_tokens: usize) -> Job {
    Job {
        end_tokens: Vec::new(),
        ..job(text, "Count to 60.", max_tokens)
    }
}

async fn finish(mut receiver: mpsc::Receiver<(usize, Event)>) -> (String, FinishReason, usize) {
    let mut all = String::new();
    while let Some((_, event)) = receiver.recv().await {
        match event {
            Event::Piece { text, .. } => all += &text,
            Event::Finished {
                reason,
                completion_tokens,
            } => return (all, reason, completion_tokens),
            Event::Failed(why) => panic!("{why}"),
        }
    }
    panic!("the answer did not finish")
}

fn submit(scheduler: &Scheduler, job: Job) -> mpsc::Receiver<(usize, Event)> {
    let (events, receiver) = mpsc::channel(16);
    scheduler.submit(job, 0, events).unwrap();
    receiver
}

async fn until(mut condition: impl FnMut() -> bool) {
    for _ in 0..2000 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("the condition did not come true within 10 s");
}

#[tokio::test(flavor = "multi_thread")]
async fn greedy_answers_do_not_depend_on_concurrency() {
    let prompts = [
        "What is 7 + 8?",
        "Hello",
        "What is Cocoon?",
        "Count to 12.",
        "Tell me a story.",
        "Spell cocoon.",
        "Repeat after me: silk moth",
        "Who are you?",
        "What is 12 + 19?",
        "Count down from 9.",
        "What is TON?",
        "Tell me a story about a fox.",
        "How are you?",
        "What is 3 * 4?",
        "Explain quantum mechanics to me, please.",
        "What is the capital of France?",
    ];
    let (scheduler, text) = scheduler(&BatchOptions::default());
    let mut alone = Vec::new();
    for prompt in prompts {
        alone.push(finish(submit(&scheduler, job(&text, prompt, 40))).await);
    }
    assert!(
        alone
            .iter()
            .all(|(text, _, tokens)| !text.is_empty() && *tokens > 1)
    );
    for concurrency in [4, 16] {
        for group in prompts
            .iter()
            .zip(&alone)
            .collect::<Vec<_>>()
            .chunks(concurrency)
        {
            let receivers: Vec<_> = group
                .iter()
                .map(|(prompt, _)| submit(&scheduler, job(&text, prompt, 40)))
                .collect();
            for (receiver, (prompt, alone)) in receivers.into_iter().zip(group) {
                assert_eq!(
                    &finish(receiver).await,
                    *alone,
                    "{prompt} among {concurrency}"
                );
            }
        }
    }
    until(|| scheduler.stats().reserved_tokens == 0).await;
}

#[tokio::test]
async fn dropping_the_receiver_stops_the_generation() {
    let (scheduler, text) = scheduler(&BatchOptions::default());
    let mut receiver = submit(&scheduler, endless(&text, 1000));
    receiver.recv().await.unwrap();
    drop(receiver);
    until(|| scheduler.stats().active == 0).await;
    let stats = scheduler.stats();
    assert_eq!((stats.cancelled, stats.reserved_tokens), (1, 0));
    assert!(stats.generated_tokens < 100, "{stats:?}");
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(scheduler.stats().generated_tokens, stats.generated_tokens);
}

#[tokio::test]
async fn a_slow_reader_pauses_only_itself() {
    let (scheduler, text) = scheduler(&BatchOptions::default());
    let stalled = submit(&scheduler, endless(&text, 520));
    until(|| scheduler.stats().generated_tokens >= 10).await;
    let (_, reason, tokens) = finish(submit(&scheduler, endless(&text, 100))).await;
    assert_eq!((reason, tokens), (FinishReason::Length, 100));
    until(|| scheduler.stats().active == 1).await;
    let (_, reason, tokens) = finish(stalled).await;
    assert_eq!((reason, tokens), (FinishReason::Length, 520));
}

#[tokio::test]
async fn queue_and_cache_are_bounded() {
    let options = BatchOptions {
        max_active: 8,
        max_waiting: 2,
        max_context: Some(256),
        cache_tokens: Some(256),
        ..BatchOptions::default()
    };
    let (scheduler, text) = scheduler(&options);
    assert_eq!(scheduler.capacity().cache_tokens, 256);
    // Each needs more than half of the cache: one runs, one waits its turn, two fill the queue.
    let receivers: Vec<_> = {
        let mut receivers = Vec::new();
        let mut refused = 0;
        while receivers.len() < 4 && refused < 2000 {
            let (events, receiver) = mpsc::channel(16);
            match scheduler.submit(endless(&text, 150), 0, events) {
                Ok(()) => receivers.push(receiver),
                Err(error) => {
                    assert_eq!(error, SubmitError::Full);
                    refused += 1;
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
        }
        receivers
    };
    until(|| scheduler.stats().active == 1).await;
    let (events, _receiver) = mpsc::channel(16);
    assert_eq!(
        scheduler.submit(endless(&text, 150), 0, events),
        Err(SubmitError::Full)
    );
    assert!(scheduler.stats().reserved_tokens <= 256);
    for receiver in receivers {
        let (_, reason, _) = finish(receiver).await;
        assert_eq!(reason, FinishReason::Length);
        assert!(scheduler.stats().active <= 1);
    }
}

#[tokio::test]
async fn options_and_jobs_that_make_no_sense_are_refused() {
    let dir = common::model_dir();
    let start = |options: BatchOptions| {
        let decoder = Decoder::load(&dir).unwrap();
        let text = Arc::new(Text::load(&dir, decoder.config().vocab_size).unwrap());
        Scheduler::start(decoder, text, &options)
            .map(|_| ())
            .unwrap_err()
            .to_string()
    };
    assert!(
        start(BatchOptions {
            max_active: 0,
            ..BatchOptions::default()
        })
        .contains("max_active")
    );
    assert!(
        start(BatchOptions {
            max_context: Some(1 << 20),
            ..BatchOptions::default()
        })
        .contains("max_context")
    );
    assert!(
        start(BatchOptions {
            cache_tokens: Some(3),
            ..BatchOptions::default()
        })
        .contains("cache_tokens")
    );
    let (scheduler, text) = scheduler(&BatchOptions::default());
    let mut receiver = submit(
        &scheduler,
        Job {
            prompt: Vec::new(),
            ..job(&text, "x", 5)
        },
    );
    assert!(matches!(receiver.recv().await, Some((0, Event::Failed(_)))));
    let mut receiver = submit(
        &scheduler,
        Job {
            prompt: vec![4; 5000],
            ..job(&text, "x", 5)
        },
    );
    assert!(matches!(receiver.recv().await, Some((0, Event::Failed(_)))));
}
