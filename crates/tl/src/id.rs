//! Constructor ids: the CRC-32 of a declaration's normal form.

/// The reflected CRC-32 polynomial (the one of Ethernet and zip).
const POLYNOMIAL: u32 = 0xedb8_8320;

/// CRC-32 with initial value and final xor all ones.
pub const fn crc32(data: &[u8]) -> u32 {
    let mut crc = !0;
    let mut i = 0;
    while i < data.len() {
        crc = crc32_step(crc, data[i]);
        i += 1;
    }
    !crc
}

const fn crc32_step(crc: u32, byte: u8) -> u32 {
    let mut crc = crc ^ byte as u32;
    let mut bit = 0;
    while bit < 8 {
        crc = (crc >> 1) ^ (POLYNOMIAL & (crc & 1).wrapping_neg());
        bit += 1;
    }
    crc
}

/// The id of a declaration such as `tcp.ping id:long = tcp.Packet`.
///
/// An id given in the text (`client.params#40fdca64 flags:# ...`) is used as it is. Otherwise it is the CRC-32
/// of the text without brackets and braces and with single spaces (`spec/protocol.md`, 2.3).
///
/// # Panics
///
/// When an explicit id is not hexadecimal. Declarations are constants, so this stops compilation.
pub const fn constructor_id(declaration: &str) -> u32 {
    let text = declaration.as_bytes();
    let name_len = constructor_name(declaration).len();
    if name_len < text.len() && text[name_len] == b'#' {
        return explicit_id(text, name_len + 1);
    }
    let mut crc = !0;
    let mut started = false;
    let mut space_due = false;
    let mut i = 0;
    while i < text.len() {
        match text[i] {
            b'(' | b')' | b'{' | b'}' | b';' => {}
            byte if byte.is_ascii_whitespace() => space_due = started,
            byte => {
                if space_due {
                    crc = crc32_step(crc, b' ');
                    space_due = false;
                }
                crc = crc32_step(crc, byte);
                started = true;
            }
        }
        i += 1;
    }
    !crc
}

const fn explicit_id(text: &[u8], from: usize) -> u32 {
    let mut id = 0;
    let mut i = from;
    while i < text.len() && !text[i].is_ascii_whitespace() {
        let digit = match text[i] {
            byte @ b'0'..=b'9' => byte - b'0',
            byte @ b'a'..=b'f' => byte - b'a' + 10,
            _ => panic!("an explicit constructor id is lower-case hexadecimal"),
        };
        id = (id << 4) | digit as u32;
        i += 1;
    }
    id
}

/// The constructor's name: the declaration up to its first space or `#`.
pub const fn constructor_name(declaration: &str) -> &str {
    let text = declaration.as_bytes();
    let mut len = 0;
    while len < text.len() && !text[len].is_ascii_whitespace() && text[len] != b'#' {
        len += 1;
    }
    declaration.split_at(len).0
}
