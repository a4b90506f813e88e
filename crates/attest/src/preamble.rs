//! The proof-of-work exchange on a stream, each stage with its time limit. The reference has no limits at all.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::Semaphore;

use crate::error::{AttestError, Stage};
use crate::pow::{self, Challenge};

/// A server sends its challenge at once, so only the network can delay it.
pub(crate) const CHALLENGE_TIMEOUT: Duration = Duration::from_secs(10);
/// Our own search: 2^28 hashes take 20 to 100 s of one core, and a node has better things to do after that.
pub(crate) const SOLVE_TIMEOUT: Duration = Duration::from_secs(120);
/// A client's search and the network, up to difficulty [`SLOW_DIFFICULTY`].
pub(crate) const RESPONSE_TIMEOUT: Duration = Duration::from_secs(30);
/// Above this difficulty each further bit doubles the time a client is given …
const SLOW_DIFFICULTY: u8 = 22;
/// … up to here, so that a silent connection never holds its slot longer.
const MAX_RESPONSE_TIMEOUT: Duration = Duration::from_secs(300);
/// Writing 12 or 24 bytes; only a peer with a closed window delays it.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// Searches running at once in this process: the rest wait for their turn, inside their own deadline.
const MAX_CONCURRENT_SEARCHES: usize = 4;
/// Of the searches above [`SLOW_DIFFICULTY`], which can take minutes. They wait in a line of their own, so that a few
/// greedy servers do not keep us from all the others.
const MAX_SLOW_SEARCHES: usize = 2;

static SEARCHES: Semaphore = Semaphore::const_new(MAX_CONCURRENT_SEARCHES);
static SLOW_SEARCHES: Semaphore = Semaphore::const_new(MAX_SLOW_SEARCHES);

/// How long a server waits for the answer to a challenge.
pub(crate) fn response_timeout(difficulty: u8) -> Duration {
    let doublings = u32::from(difficulty.saturating_sub(SLOW_DIFFICULTY)).min(8);
    (RESPONSE_TIMEOUT * 2u32.pow(doublings)).min(MAX_RESPONSE_TIMEOUT)
}

/// The client's part: read the challenge, work, answer.
pub(crate) async fn answer<S>(stream: &mut S, max_difficulty: u8) -> Result<(), AttestError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut bytes = [0; pow::CHALLENGE_LEN];
    staged(
        Stage::PowChallenge,
        CHALLENGE_TIMEOUT,
        stream.read_exact(&mut bytes),
    )
    .await?;
    let challenge = Challenge::from_bytes(&bytes)?;
    challenge.check_difficulty(max_difficulty)?;
    let nonce = search(challenge, max_difficulty).await?;
    staged(Stage::PowResponse, WRITE_TIMEOUT, async {
        stream.write_all(&pow::response_to_bytes(nonce)).await?;
        stream.flush().await
    })
    .await
}

/// The server's part: ask, wait, check. Reads exactly 12 bytes; what follows belongs to TLS.
pub(crate) async fn demand<S>(stream: &mut S, difficulty: u8) -> Result<(), AttestError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let challenge = Challenge::random(difficulty)?;
    staged(Stage::PowChallenge, WRITE_TIMEOUT, async {
        stream.write_all(&challenge.to_bytes()).await?;
        stream.flush().await
    })
    .await?;
    let mut bytes = [0; pow::RESPONSE_LEN];
    staged(
        Stage::PowResponse,
        response_timeout(difficulty),
        stream.read_exact(&mut bytes),
    )
    .await?;
    challenge.verify(pow::response_from_bytes(&bytes)?)?;
    Ok(())
}

/// Searches on a thread for blocking work; dropping the future stops the search.
async fn search(challenge: Challenge, max_difficulty: u8) -> Result<i64, AttestError> {
    struct StopOnDrop(Arc<AtomicBool>);
    impl Drop for StopOnDrop {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let work = async {
        let line = if challenge.difficulty > i32::from(SLOW_DIFFICULTY) {
            &SLOW_SEARCHES
        } else {
            &SEARCHES
        };
        // The semaphore is never closed; were it, working without a permit is the harmless reading.
        let permit = line.acquire().await.ok();
        let stop = StopOnDrop(Arc::new(AtomicBool::new(false)));
        let stopped = stop.0.clone();
        let found = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            challenge.solve(max_difficulty, || stopped.load(Ordering::Relaxed))
        })
        .await;
        drop(stop);
        found
    };
    match tokio::time::timeout(SOLVE_TIMEOUT, work).await {
        Err(_) => Err(AttestError::Timeout {
            stage: Stage::PowSolve,
            limit: SOLVE_TIMEOUT,
        }),
        Ok(Ok(result)) => Ok(result?),
        // The runtime is shutting down.
        Ok(Err(join)) => Err(AttestError::Io {
            stage: Stage::PowSolve,
            source: io::Error::other(join),
        }),
    }
}

/// Runs one stage of I/O under its limit and names the stage in what goes wrong.
pub(crate) async fn staged<T>(
    stage: Stage,
    limit: Duration,
    work: impl Future<Output = io::Result<T>>,
) -> Result<(), AttestError> {
    match tokio::time::timeout(limit, work).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(source)) if source.kind() == io::ErrorKind::UnexpectedEof => {
            Err(AttestError::Closed { stage })
        }
        Ok(Err(source)) => Err(AttestError::Io { stage, source }),
        Err(_) => Err(AttestError::Timeout { stage, limit }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn response_time_grows_with_difficulty_and_ends() {
        assert_eq!(response_timeout(0), RESPONSE_TIMEOUT);
        assert_eq!(response_timeout(pow::DEFAULT_DIFFICULTY), RESPONSE_TIMEOUT);
        assert_eq!(response_timeout(23), RESPONSE_TIMEOUT * 2);
        assert_eq!(response_timeout(64), MAX_RESPONSE_TIMEOUT);
    }

    #[tokio::test(start_paused = true)]
    async fn silent_server_times_out() {
        let (mut ours, _theirs) = tokio::io::duplex(64);
        let error = answer(&mut ours, 28).await.unwrap_err();
        assert!(
            matches!(
                error,
                AttestError::Timeout {
                    stage: Stage::PowChallenge,
                    ..
                }
            ),
            "{error}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn slow_client_times_out_although_it_trickles() {
        let (mut ours, mut theirs) = tokio::io::duplex(64);
        let trickle = async {
            for byte in [0x19, 0x73, 0x82] {
                tokio::time::sleep(Duration::from_secs(12)).await;
                theirs.write_all(&[byte]).await.unwrap();
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            result = demand(&mut ours, 20) => {
                let error = result.unwrap_err();
                assert!(matches!(error, AttestError::Timeout { stage: Stage::PowResponse, limit } if limit == RESPONSE_TIMEOUT), "{error}");
            }
            () = trickle => unreachable!(),
        }
    }

    #[tokio::test]
    async fn dropping_the_search_stops_it() {
        let challenge = Challenge {
            difficulty: 60,
            salt: [1; 16],
        };
        let result = tokio::time::timeout(Duration::from_millis(30), search(challenge, 64)).await;
        assert!(result.is_err(), "a 60-bit search cannot end in 30 ms");
        // All permits come back only if the abandoned thread noticed.
        let all = SLOW_SEARCHES.acquire_many(MAX_SLOW_SEARCHES as u32);
        let all = tokio::time::timeout(Duration::from_secs(10), all).await;
        assert!(all.is_ok(), "the abandoned search still runs");
    }

    #[tokio::test]
    async fn greedy_servers_do_not_block_the_others() {
        let ask = |difficulty| Challenge {
            difficulty,
            salt: [2; 16],
        };
        let greedy: Vec<_> = (0..20).map(|_| tokio::spawn(search(ask(60), 64))).collect();
        // Until the greedy ones have begun.
        let begun = async {
            while SLOW_SEARCHES.available_permits() > 0 {
                tokio::task::yield_now().await;
            }
        };
        let limit = Duration::from_secs(20);
        tokio::time::timeout(limit, begun).await.unwrap();
        let found = tokio::time::timeout(limit, search(ask(8), 28)).await;
        found
            .expect("an ordinary search waits for greedy ones")
            .unwrap();
        for one in greedy {
            one.abort();
        }
    }

    #[tokio::test]
    async fn bytes_after_the_response_stay_for_tls() {
        let (mut ours, mut theirs) = tokio::io::duplex(256);
        let client = async {
            let mut bytes = [0; pow::CHALLENGE_LEN];
            theirs.read_exact(&mut bytes).await.unwrap();
            let nonce = Challenge::from_bytes(&bytes).unwrap().solve(8, || false);
            let mut out = pow::response_to_bytes(nonce.unwrap()).to_vec();
            out.extend_from_slice(b"hello");
            theirs.write_all(&out).await.unwrap();
        };
        let (result, ()) = tokio::join!(demand(&mut ours, 4), client);
        result.unwrap();
        let mut rest = [0; 5];
        ours.read_exact(&mut rest).await.unwrap();
        assert_eq!(&rest, b"hello");
    }
}
