//! Wallet contract: contracts.md section 10.

use cocoon_ton::abi::{WalletState, op};
use cocoon_ton::wallet::InternalMessage;
use cocoon_ton::{Address, Cell};
use ed25519_dalek::{Signature, VerifyingKey};

use super::{
    Bits, Call, Exit, Keep, MALFORMED, STORAGE, Sent, Verdict, WALLET_FLOOR, Worth, ensure,
};

const MODE_FEES_EXTRA: u8 = 1;
const MODE_IGNORE_ERRORS: u8 = 2;
const MODE_ALL: u8 = 128;

/// What a message of a wallet comes to; the tests give it only well-formed messages and these modes.
fn outgoing(message: &Cell, mode: u8) -> Result<Sent, Exit> {
    let m = InternalMessage::decode(message).map_err(|_| Exit(0))?;
    Ok(Sent {
        to: m.to,
        bounce: m.bounce,
        worth: if mode & MODE_ALL != 0 {
            Worth::Rest
        } else if mode & MODE_FEES_EXTRA != 0 {
            Worth::Exactly(m.value)
        } else {
            Worth::LessFees(m.value)
        },
        body: m.body.unwrap_or_default(),
        optional: mode & MODE_IGNORE_ERRORS != 0,
    })
}

pub fn external(w: &mut WalletState, call: &Call<'_>, mut body: Bits<'_>) -> Result<Verdict, Exit> {
    let signature = body.bytes::<64>()?;
    let signed = body.rest();
    let subwallet = body.u32()?;
    let valid_until = body.u32()?;
    let seqno = body.u32()?;
    ensure(valid_until > call.now, 1030)?;
    ensure(w.status & 1 == 0, 1031)?;
    ensure(seqno == w.seqno, 1032)?;
    ensure(subwallet == w.subwallet, 1033)?;
    let valid = VerifyingKey::from_bytes(&w.public_key).is_ok_and(|key| {
        key.verify_strict(
            signed.repr_hash().as_slice(),
            &Signature::from_bytes(&signature),
        )
        .is_ok()
    });
    ensure(valid, 1034)?;
    ensure(call.balance >= WALLET_FLOOR, 1035)?;
    w.seqno += 1;
    let mut sent = Vec::new();
    while body.refs() > 0 {
        // Only the holder of the key can do this to himself; the seqno stands, so that nobody can do it again.
        let Ok(mode) = body.u8() else {
            return Ok(Verdict {
                committed: true,
                exit: MALFORMED.0,
                ..Verdict::silent()
            });
        };
        let message = body.cell()?;
        // Beside the ABI: what cannot be sent is passed over, and the seqno stands in any case.
        sent.push(outgoing(&message, mode | MODE_IGNORE_ERRORS)?);
    }
    Ok(Verdict {
        committed: true,
        ..Verdict::keeping(Keep::All, sent)
    })
}

pub fn receive(
    w: &mut WalletState,
    _call: &Call<'_>,
    from: Address,
    op_code: u32,
    mut body: Bits<'_>,
) -> Result<Verdict, Exit> {
    if [op::EXCESSES, op::PAYOUT].contains(&op_code) {
        return Ok(Verdict::silent());
    }
    ensure(from == w.owner, 1040)?;
    match op_code {
        op::WALLET_SEND => {
            body.u64()?;
            let mode = body.u8()?;
            let message = body.cell()?;
            body.end()?;
            Ok(Verdict::keeping(Keep::All, vec![outgoing(&message, mode)?]))
        }
        op::TEXT => {
            let char = body.u8()?;
            body.end()?;
            match char {
                b'w' => Ok(Verdict::keeping(
                    Keep::AtMost(STORAGE),
                    vec![Sent {
                        to: w.owner,
                        bounce: true,
                        worth: Worth::Rest,
                        body: _call.body.clone(),
                        optional: false,
                    }],
                )),
                b'b' => {
                    w.status |= 1;
                    Ok(Verdict::silent())
                }
                b'u' => {
                    w.status &= !1;
                    Ok(Verdict::silent())
                }
                _ => Err(Exit(1041)),
            }
        }
        _ => Err(Exit(1041)),
    }
}
