//! The value of a `flags:#` field.

/// The bits of a `flags:#` field to which **no** field of ours is attached.
///
/// Bits with a field are not kept here: on writing they follow from which optional fields are `Some`, so a
/// flag and its field can never disagree. Unknown bits of a received object are kept, which makes reading
/// and writing lossless. Bit 31 cannot be used in TL and is never written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flags(pub u32);

impl Flags {
    /// No unknown bits: what everybody writes.
    pub const NONE: Flags = Flags(0);

    /// The value to write for an object that attaches fields to the bits `attached`, of which `present` are set.
    pub fn to_write(self, attached: u32, present: u32) -> u32 {
        (self.0 & !attached & i32::MAX as u32) | present
    }
}
