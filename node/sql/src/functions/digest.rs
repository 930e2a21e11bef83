//! Digests and encodings of bytes.

use sha1::Sha1;
use sha2::{Digest, Sha224, Sha256, Sha384, Sha512};

use super::raw::{Args, Out};
use super::text::hex_text;
use crate::context::Context;
use crate::error::SqlResult;

fn lower_hex(bytes: &[u8]) -> String {
    hex_text(bytes).to_ascii_lowercase()
}

pub(crate) fn sha1(args: &Args<'_>, _: &Context) -> SqlResult<Out> {
    Ok(args.get(0).bytes().map(|b| lower_hex(&Sha1::digest(&b))).into())
}

pub(crate) fn sha2(args: &Args<'_>, _: &Context) -> SqlResult<Out> {
    let Some(bytes) = args.get(0).bytes() else { return Ok(Out::Null) };
    Ok(match args.int(1) {
        Some(0 | 256) => Out::Text(lower_hex(&Sha256::digest(&bytes))),
        Some(224) => Out::Text(lower_hex(&Sha224::digest(&bytes))),
        Some(384) => Out::Text(lower_hex(&Sha384::digest(&bytes))),
        Some(512) => Out::Text(lower_hex(&Sha512::digest(&bytes))),
        _ => Out::Null,
    })
}

pub(crate) fn md5(args: &Args<'_>, _: &Context) -> SqlResult<Out> {
    Ok(args.get(0).bytes().map(|b| lower_hex(&md5_digest(&b))).into())
}

/// MD5 (RFC 1321); it protects nothing here.
fn md5_digest(message: &[u8]) -> [u8; 16] {
    const SHIFTS: [[u32; 4]; 4] = [[7, 12, 17, 22], [5, 9, 14, 20], [4, 11, 16, 23], [6, 10, 15, 21]];
    let mut padded = message.to_vec();
    padded.push(0x80);
    while padded.len() % 64 != 56 {
        padded.push(0);
    }
    padded.extend((message.len() as u64).wrapping_mul(8).to_le_bytes());
    let mut state = [0x6745_2301_u32, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476];
    for block in padded.chunks_exact(64) {
        let word = |n: usize| {
            u32::from_le_bytes([block[4 * n], block[4 * n + 1], block[4 * n + 2], block[4 * n + 3]])
        };
        let [mut a, mut b, mut c, mut d] = state;
        for i in 0..64 {
            let (f, g) = match i / 16 {
                0 => ((b & c) | (!b & d), i),
                1 => ((d & b) | (!d & c), (5 * i + 1) % 16),
                2 => (b ^ c ^ d, (3 * i + 5) % 16),
                _ => (c ^ (b | !d), (7 * i) % 16),
            };
            // The constants are the sines of 1, 2, 3 … by definition.
            let constant = ((i as f64 + 1.0).sin().abs() * 4_294_967_296.0) as u32;
            let sum = a.wrapping_add(f).wrapping_add(constant).wrapping_add(word(g));
            (a, d, c) = (d, c, b);
            b = b.wrapping_add(sum.rotate_left(SHIFTS[i / 16][i % 4]));
        }
        for (slot, value) in state.iter_mut().zip([a, b, c, d]) {
            *slot = slot.wrapping_add(value);
        }
    }
    let mut digest = [0; 16];
    for (chunk, word) in digest.chunks_exact_mut(4).zip(state) {
        chunk.copy_from_slice(&word.to_le_bytes());
    }
    digest
}

pub(crate) fn crc32(args: &Args<'_>, _: &Context) -> SqlResult<Out> {
    let Some(bytes) = args.get(0).bytes() else { return Ok(Out::Null) };
    let mut crc = u32::MAX;
    for byte in bytes.iter() {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
        }
    }
    Ok(Out::Int(i64::from(!crc)))
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

pub(crate) fn to_base64(args: &Args<'_>, _: &Context) -> SqlResult<Out> {
    let Some(bytes) = args.get(0).bytes() else { return Ok(Out::Null) };
    let mut all = String::new();
    for (n, chunk) in bytes.chunks(3).enumerate() {
        // Lines of 76 characters, as MySQL breaks them.
        if n > 0 && n % 19 == 0 {
            all.push('\n');
        }
        let value = chunk.iter().fold(0u32, |v, b| v << 8 | u32::from(*b)) << (8 * (3 - chunk.len()));
        for place in 0..4 {
            if place <= chunk.len() {
                all.push(BASE64[(value >> (18 - 6 * place) & 63) as usize] as char);
            } else {
                all.push('=');
            }
        }
    }
    Ok(Out::Text(all))
}

pub(crate) fn from_base64(args: &Args<'_>, _: &Context) -> SqlResult<Out> {
    let Some(bytes) = args.get(0).bytes() else { return Ok(Out::Null) };
    let mut out = Vec::new();
    let (mut value, mut bits) = (0u32, 0);
    for byte in bytes.iter().filter(|b| !b.is_ascii_whitespace() && **b != b'=') {
        let Some(digit) = BASE64.iter().position(|c| c == byte) else { return Ok(Out::Null) };
        value = (value << 6 | digit as u32) & 0x00ff_ffff;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            out.push((value >> bits & 0xff) as u8);
        }
    }
    Ok(Out::Blob(out))
}

pub(crate) fn inet_aton(args: &Args<'_>, _: &Context) -> SqlResult<Out> {
    let Some(text) = args.text(0) else { return Ok(Out::Null) };
    Ok(text.parse::<std::net::Ipv4Addr>().ok().map(|a| i64::from(u32::from(a))).into())
}

pub(crate) fn inet_ntoa(args: &Args<'_>, _: &Context) -> SqlResult<Out> {
    let address = args.int(0).and_then(|n| u32::try_from(n).ok());
    Ok(address.map(|a| std::net::Ipv4Addr::from(a).to_string()).into())
}

pub(crate) fn uuid_to_bin(args: &Args<'_>, _: &Context) -> SqlResult<Out> {
    let Some(text) = args.text(0) else { return Ok(Out::Null) };
    let digits: Vec<u8> = text
        .chars()
        .filter(|c| !matches!(c, '-' | '{' | '}'))
        .filter_map(|c| c.to_digit(16))
        .map(|d| d as u8)
        .collect();
    Ok(if digits.len() == 32 {
        Out::Blob(digits.chunks(2).map(|p| p[0] << 4 | p[1]).collect())
    } else {
        Out::Null
    })
}

pub(crate) fn uuid_text(bytes: &[u8]) -> String {
    let hex = lower_hex(bytes);
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..32])
}

pub(crate) fn bin_to_uuid(args: &Args<'_>, _: &Context) -> SqlResult<Out> {
    Ok(args.get(0).bytes().filter(|b| b.len() == 16).map(|b| uuid_text(&b)).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn md5_is_that_of_rfc_1321() {
        assert_eq!(lower_hex(&md5_digest(b"")), "d41d8cd98f00b204e9800998ecf8427e");
        assert_eq!(lower_hex(&md5_digest(b"message digest")), "f96b697d7cb7938d525a2f31aaf161d0");
    }
}
