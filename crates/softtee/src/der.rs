//! DER, as much as a certificate needs.

/// An element around the concatenation of `parts`.
pub fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    let mut out = vec![tag];
    match body.len() {
        short @ 0..=0x7f => out.push(short as u8),
        long => {
            let bytes = long.to_be_bytes();
            let used = &bytes[bytes.iter().position(|b| *b != 0).unwrap_or(7)..];
            out.push(0x80 | used.len() as u8);
            out.extend_from_slice(used);
        }
    }
    out.extend(body);
    out
}

/// SEQUENCE.
pub fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    element(0x30, parts)
}

/// OCTET STRING.
pub fn octets(bytes: &[u8]) -> Vec<u8> {
    element(0x04, &[bytes])
}

/// A positive INTEGER from big-endian bytes.
pub fn integer(bytes: &[u8]) -> Vec<u8> {
    let start = bytes
        .iter()
        .position(|b| *b != 0)
        .unwrap_or(bytes.len().saturating_sub(1));
    let digits = &bytes[start..];
    let sign: &[u8] = if digits.first().is_none_or(|b| b & 0x80 != 0) {
        &[0]
    } else {
        &[]
    };
    element(0x02, &[sign, digits])
}

/// BIT STRING of whole bytes.
pub fn bits(bytes: &[u8]) -> Vec<u8> {
    element(0x03, &[&[0], bytes])
}

/// OBJECT IDENTIFIER from dotted text.
pub fn oid(text: &str) -> Vec<u8> {
    let arcs: Vec<u64> = text
        .split('.')
        .map(|arc| arc.parse().expect("a number"))
        .collect();
    let mut body = Vec::new();
    let first = arcs[0] * 40 + arcs[1];
    for arc in std::iter::once(&first).chain(&arcs[2..]) {
        let mut digits = vec![(arc & 0x7f) as u8];
        let mut rest = arc >> 7;
        while rest > 0 {
            digits.push((rest & 0x7f) as u8 | 0x80);
            rest >>= 7;
        }
        body.extend(digits.iter().rev());
    }
    element(0x06, &[&body])
}

/// A certificate extension.
pub fn extension(id: &str, critical: bool, value: &[u8]) -> Vec<u8> {
    let critical: &[u8] = if critical { &[1, 1, 0xff] } else { &[] };
    sequence(&[&oid(id), critical, &octets(value)])
}

/// GeneralizedTime.
pub fn time(unix: u64) -> Vec<u8> {
    let text = rfc3339(unix).replace(['-', 'T', ':'], "");
    // Dates before 2050 must be UTCTime, with two digits of the year.
    if text.as_str() < "2050" {
        element(0x17, &[&text.as_bytes()[2..]])
    } else {
        element(0x18, &[text.as_bytes()])
    }
}

/// `2026-02-20T00:00:00Z`, for dates from 1970 on.
pub fn rfc3339(unix: u64) -> String {
    let (mut days, second) = (unix / 86_400, unix % 86_400);
    let leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    let mut year = 1970;
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let lengths = [
        31,
        28 + u64::from(leap(year)),
        31,
        30,
        31,
        30,
        31,
        31,
        30,
        31,
        30,
        31,
    ];
    let mut month = 1;
    for length in lengths {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!(
        "{year:04}-{month:02}-{:02}T{hour:02}:{minute:02}:{second:02}Z",
        days + 1
    )
}
