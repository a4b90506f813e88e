//! The messages of claims on a stream, first after the TLS handshake, both sides alike.
//!
//! ```text
//! both: challenge   u8 wants (bit 0: GPU evidence) | 32 bytes nonce
//! both: statement   [`Statement`]
//! both: evidence    GPU evidence, only if the other side wants it
//! both: accepted (empty), or refused (a reason in words), after which the connection ends
//! message: u8 kind | u32 little-endian length | body
//! ```
//!
//! Nothing is read beyond the last message, so what follows belongs to the application. A side reads only what it has
//! asked for: [`MAX_STATEMENT_LEN`] bytes, and [`gpu::MAX_EVIDENCE_LEN`] more if it wants evidence.

use std::io;
use std::time::Duration;

use ed25519_dalek::SigningKey;
use rand::TryRngCore;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::judge::{ClaimsError, MAX_REASON_LEN, judge};
use super::statement::{MAX_STATEMENT_LEN, PaymentKey, Session, Side, Statement, StatementError};
use super::{ClaimsProfile, OwnClaims, VerifiedClaims, gpu};

/// The whole exchange. Two round trips take less than a second; the reports of eight GPUs take some more.
pub const CLAIMS_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a refused peer may take to read why.
const LINGER: Duration = Duration::from_secs(2);
/// What is thrown away meanwhile.
const MAX_LINGER_BYTES: usize = MAX_STATEMENT_LEN + gpu::MAX_EVIDENCE_LEN;
const WANTS_GPU: u8 = 1;

pub(crate) mod kind {
    pub const CHALLENGE: u8 = 1;
    pub const STATEMENT: u8 = 2;
    pub const EVIDENCE: u8 = 3;
    pub const ACCEPTED: u8 = 4;
    pub const REFUSED: u8 = 5;
}

/// Why there are no claims.
#[derive(Debug)]
pub(crate) enum ExchangeError {
    Io(io::Error),
    Claims(ClaimsError),
}

impl From<io::Error> for ExchangeError {
    fn from(error: io::Error) -> Self {
        ExchangeError::Io(error)
    }
}

impl From<ClaimsError> for ExchangeError {
    fn from(error: ClaimsError) -> Self {
        ExchangeError::Claims(error)
    }
}

impl From<StatementError> for ExchangeError {
    fn from(error: StatementError) -> Self {
        ExchangeError::Claims(error.into())
    }
}

/// A connection whose handshake is complete.
pub(crate) struct Line<'a> {
    /// Our own end.
    pub side: Side,
    /// Our TLS key.
    pub key: &'a SigningKey,
    /// The peer's.
    pub peer_key: [u8; 32],
    /// Exporter value.
    pub binding: [u8; 32],
}

/// Exchanges claims. `clock` gives Unix seconds.
pub(crate) async fn exchange<S>(
    stream: &mut S,
    line: &Line<'_>,
    profile: &ClaimsProfile,
    clock: impl Fn() -> u64,
) -> Result<VerifiedClaims, ExchangeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    match talk(stream, line, profile, clock).await {
        Ok(claims) => {
            send(stream, kind::ACCEPTED, &[]).await?;
            receive(stream, kind::ACCEPTED, 0).await?;
            Ok(claims)
        }
        Err(ExchangeError::Claims(error)) => {
            if !matches!(error, ClaimsError::RefusedByPeer(_)) {
                let reason = error.to_string();
                let mut end = reason.len().min(MAX_REASON_LEN);
                while !reason.is_char_boundary(end) {
                    end -= 1;
                }
                let reason = &reason.as_bytes()[..end];
                // Unread bytes would turn the close into a reset, which destroys the reason.
                let _ = tokio::time::timeout(LINGER, async {
                    send(stream, kind::REFUSED, reason).await?;
                    stream.shutdown().await?;
                    discard(stream).await
                })
                .await;
            }
            Err(ExchangeError::Claims(error))
        }
        Err(error) => Err(error),
    }
}

async fn talk<S>(
    stream: &mut S,
    line: &Line<'_>,
    profile: &ClaimsProfile,
    clock: impl Fn() -> u64,
) -> Result<VerifiedClaims, ExchangeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut nonce = [0; 32];
    rand::rngs::OsRng
        .try_fill_bytes(&mut nonce)
        .map_err(io::Error::other)?;
    let asks = profile.expected.gpu.is_some();
    let wants = if asks { WANTS_GPU } else { 0 };
    send(stream, kind::CHALLENGE, &[&[wants][..], &nonce].concat()).await?;
    let (their_wants, their_nonce) = challenge(&receive(stream, kind::CHALLENGE, 33).await?)?;
    if their_nonce == nonce {
        return Err(ClaimsError::Challenge("repeats ours").into());
    }
    let own_key = line.key.verifying_key().to_bytes();
    let said = Session {
        side: line.side,
        key: own_key,
        peer_key: line.peer_key,
        binding: line.binding,
        nonce: their_nonce,
    };
    let to_be_said = Session {
        side: line.side.other(),
        key: line.peer_key,
        peer_key: own_key,
        binding: line.binding,
        nonce,
    };
    let (statement, evidence) = speak(line.key, said, their_wants, &profile.own, &clock).await?;
    let (mut read, mut write) = tokio::io::split(stream);
    // At once, so that two sides with much evidence do not wait for each other.
    let speaking = async {
        send(&mut write, kind::STATEMENT, &statement).await?;
        if their_wants {
            send(&mut write, kind::EVIDENCE, &evidence).await?;
        }
        Ok::<_, ExchangeError>(())
    };
    let listening = async {
        let bytes = receive(&mut read, kind::STATEMENT, MAX_STATEMENT_LEN).await?;
        let statement = Statement::open(&bytes)?;
        let evidence = match asks {
            true => Some(receive(&mut read, kind::EVIDENCE, gpu::MAX_EVIDENCE_LEN).await?),
            false => None,
        };
        Ok((statement, evidence))
    };
    let ((), (statement, evidence)) = tokio::try_join!(speaking, listening)?;
    let expected = profile.expected.clone();
    let (own_protocol, now) = (profile.own.protocol, clock());
    // Signatures of several GPUs take milliseconds each: not on a thread that serves others.
    let judged = tokio::task::spawn_blocking(move || {
        let evidence = evidence.as_deref();
        judge(
            &statement,
            &to_be_said,
            own_protocol,
            &expected,
            evidence,
            now,
        )
    });
    Ok(judged.await.map_err(io::Error::other)??)
}

/// Our statement and the evidence that goes with it.
async fn speak(
    key: &SigningKey,
    session: Session,
    with_gpu: bool,
    own: &OwnClaims,
    clock: impl Fn() -> u64,
) -> Result<(Vec<u8>, Vec<u8>), ExchangeError> {
    let evidence = match (&own.gpu, with_gpu) {
        (Some(source), true) => {
            let (source, nonce) = (source.clone(), gpu::nonce_for_session(&session));
            let devices = tokio::task::spawn_blocking(move || source.evidence(&nonce))
                .await
                .map_err(io::Error::other)?
                .map_err(io::Error::other)?;
            gpu::encode(&devices).map_err(io::Error::other)?
        }
        _ => Vec::new(),
    };
    let statement = Statement {
        session,
        time: clock(),
        role: own.role,
        network: own.network,
        root: own.root,
        protocol: own.protocol,
        encryption: own.encryption.clone(),
        payment_key: own
            .payment_key
            .as_deref()
            .map(|key| PaymentKey::prove(key, &session)),
        gpu_digest: (!evidence.is_empty()).then(|| Sha256::digest(&evidence).into()),
    };
    Ok((statement.sign(key), evidence))
}

/// What the peer wants, and its nonce.
fn challenge(bytes: &[u8]) -> Result<(bool, [u8; 32]), ClaimsError> {
    let wrong = ClaimsError::Challenge("has a wrong length");
    let [wants, nonce @ ..] = bytes else {
        return Err(wrong);
    };
    let nonce = nonce.try_into().map_err(|_| wrong)?;
    match *wants {
        0 => Ok((false, nonce)),
        WANTS_GPU => Ok((true, nonce)),
        _ => Err(ClaimsError::Challenge("asks for something unknown here")),
    }
}

pub(crate) async fn send<W>(writer: &mut W, kind: u8, body: &[u8]) -> io::Result<()>
where
    W: AsyncWrite + Unpin,
{
    let length = u32::try_from(body.len()).map_err(io::Error::other)?;
    let mut out = Vec::with_capacity(5 + body.len());
    out.push(kind);
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(body);
    writer.write_all(&out).await?;
    writer.flush().await
}

/// The body of the message that is due. A refusal may come instead of any of them.
pub(crate) async fn receive<R>(
    reader: &mut R,
    due: u8,
    limit: usize,
) -> Result<Vec<u8>, ExchangeError>
where
    R: AsyncRead + Unpin,
{
    let mut head = [0; 5];
    reader.read_exact(&mut head).await?;
    let [kind, length @ ..] = head;
    let found = u32::from_le_bytes(length) as usize;
    let limit = match kind {
        kind::REFUSED => MAX_REASON_LEN,
        kind if kind == due => limit,
        found => {
            return Err(ClaimsError::Message {
                expected: due,
                found,
            }
            .into());
        }
    };
    if found > limit {
        return Err(ClaimsError::MessageLength { kind, found, limit }.into());
    }
    let mut body = vec![0; found];
    reader.read_exact(&mut body).await?;
    if kind != kind::REFUSED {
        return Ok(body);
    }
    // A stranger's words go to a log: no control characters.
    let words = String::from_utf8_lossy(&body);
    let words = words.chars().filter(|c| !c.is_control()).collect();
    Err(ClaimsError::RefusedByPeer(words).into())
}

async fn discard<R: AsyncRead + Unpin>(reader: &mut R) -> io::Result<()> {
    let mut waste = [0; 4 * 1024];
    let mut total = 0;
    while total < MAX_LINGER_BYTES {
        match reader.read(&mut waste).await? {
            0 => break,
            read => total += read,
        }
    }
    Ok(())
}
