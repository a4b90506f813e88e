//! A DER writer of a few lines: enough for one certificate profile whose every byte is known.

/// Tags used by the profile.
pub(crate) mod tag {
    pub const BOOLEAN: u8 = 0x01;
    pub const INTEGER: u8 = 0x02;
    pub const BIT_STRING: u8 = 0x03;
    pub const OCTET_STRING: u8 = 0x04;
    pub const OID: u8 = 0x06;
    pub const UTF8_STRING: u8 = 0x0c;
    pub const PRINTABLE_STRING: u8 = 0x13;
    pub const UTC_TIME: u8 = 0x17;
    pub const GENERALIZED_TIME: u8 = 0x18;
    pub const SEQUENCE: u8 = 0x30;
    pub const SET: u8 = 0x31;
    pub const SAN_DNS: u8 = 0x82;
    pub const SAN_IP: u8 = 0x87;
    pub const CONTEXT_0: u8 = 0xa0;
    pub const CONTEXT_3: u8 = 0xa3;
}

/// One tag-length-value element around the concatenation of `parts`.
pub(crate) fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|p| p.len()).sum();
    let mut out = Vec::with_capacity(length + 6);
    out.push(tag);
    if length < 0x80 {
        out.push(length as u8);
    } else {
        let bytes = length.to_be_bytes();
        let used = &bytes[length.leading_zeros() as usize / 8..];
        out.push(0x80 | used.len() as u8);
        out.extend_from_slice(used);
    }
    for part in parts {
        out.extend_from_slice(part);
    }
    out
}

/// A positive INTEGER from big-endian bytes: leading zeros stripped, one kept where the top bit is set.
pub(crate) fn unsigned_integer(big_endian: &[u8]) -> Vec<u8> {
    let first = big_endian.iter().position(|b| *b != 0);
    let digits = first.map_or(&[0u8][..], |at| &big_endian[at..]);
    if digits[0] & 0x80 != 0 {
        element(tag::INTEGER, &[&[0], digits])
    } else {
        element(tag::INTEGER, &[digits])
    }
}

/// A BIT STRING without unused bits.
pub(crate) fn bit_string(bytes: &[u8]) -> Vec<u8> {
    element(tag::BIT_STRING, &[&[0], bytes])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths() {
        assert_eq!(element(0x04, &[&[7]]), [0x04, 1, 7]);
        assert_eq!(element(0x04, &[&[0; 127]])[..2], [0x04, 0x7f]);
        assert_eq!(element(0x04, &[&[0; 128]])[..3], [0x04, 0x81, 0x80]);
        assert_eq!(
            element(0x04, &[&[0; 5010]])[..4],
            [0x04, 0x82, 0x13, 0x92],
            "the size of a real quote"
        );
    }

    #[test]
    fn integers_are_minimal_and_positive() {
        assert_eq!(unsigned_integer(&[0, 0]), [2, 1, 0]);
        assert_eq!(unsigned_integer(&[0, 0x11]), [2, 1, 0x11]);
        assert_eq!(unsigned_integer(&[0x80]), [2, 2, 0, 0x80]);
    }
}
