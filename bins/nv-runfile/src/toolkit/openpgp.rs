//! Just enough of OpenPGP (RFC 9580) to tell a public key by its fingerprint.

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use sha1::{Digest, Sha1};

const BEGIN: &str = "-----BEGIN PGP PUBLIC KEY BLOCK-----";
const END: &str = "-----END PGP PUBLIC KEY BLOCK-----";
const PUBLIC_KEY: u8 = 6;
const SECRET_KEYS: [u8; 2] = [5, 7];

/// A block may end with or without padding.
const ARMOR: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A file of public keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    /// Without armor.
    pub binary: Vec<u8>,
    /// It came with armor.
    pub armored: bool,
    /// Of its primary keys, in upper case hex.
    pub fingerprints: Vec<String>,
}

impl Keys {
    /// The keys in one block of ASCII armor (RFC 9580, section 6), without headers.
    pub fn armor(&self) -> Vec<u8> {
        let body = ARMOR.encode(&self.binary);
        let mut text = format!("{BEGIN}\n\n");
        for line in body.as_bytes().chunks(64) {
            text.push_str(&String::from_utf8_lossy(line));
            text.push('\n');
        }
        let sum = crc24(&self.binary).to_be_bytes();
        text.push_str(&format!("={}\n{END}\n", ARMOR.encode(&sum[1..])));
        text.into_bytes()
    }
}

/// The checksum that older versions of rpm require at the end of a block (RFC 9580,
/// section 6.1).
fn crc24(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x00b7_04ce, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte) << 16, |crc, _| {
            let next = crc << 1;
            if next & 0x0100_0000 == 0 { next } else { next ^ 0x0186_4cfb }
        })
    })
}

/// Reads one. Errors: what is wrong with it.
pub fn keys(bytes: &[u8]) -> Result<Keys, String> {
    let text = std::str::from_utf8(bytes).unwrap_or_default();
    let armored = text.contains(BEGIN);
    let binary = if armored { dearmor(text)? } else { bytes.to_vec() };
    let fingerprints = fingerprints(&binary)?;
    match fingerprints.is_empty() {
        true => Err("it holds no public key".into()),
        false => Ok(Keys { binary, armored, fingerprints }),
    }
}

fn dearmor(text: &str) -> Result<Vec<u8>, String> {
    let mut lines = text.lines().map(str::trim_end);
    lines.by_ref().find(|line| *line == BEGIN).ok_or("its armor does not begin")?;
    // headers, then an empty line
    lines.by_ref().find(|line| line.is_empty()).ok_or("its armor is damaged")?;
    // a line that begins with '=' is a checksum, which the fingerprint makes needless
    let body = lines.by_ref().take_while(|line| *line != END);
    let body: String = body.filter(|line| !line.starts_with('=')).collect();
    let bytes = ARMOR.decode(body).map_err(|_| "its armor is damaged")?;
    if lines.any(|line| line == BEGIN) {
        return Err("it holds more than one block".into());
    }
    Ok(bytes)
}

fn fingerprints(bytes: &[u8]) -> Result<Vec<String>, String> {
    let damaged = || "it is not an OpenPGP key file".to_string();
    let mut rest = bytes;
    let mut found = Vec::new();
    while let Some((&head, after)) = rest.split_first() {
        let (tag, length, after) = header(head, after).ok_or_else(damaged)?;
        if after.len() < length {
            return Err(damaged());
        }
        let (body, next) = after.split_at(length);
        rest = next;
        if SECRET_KEYS.contains(&tag) {
            return Err("it holds a secret key".into());
        }
        if tag != PUBLIC_KEY {
            continue;
        }
        if body.first() != Some(&4) || length > usize::from(u16::MAX) {
            return Err("it holds a key that is not of version 4".into());
        }
        let mut sha = Sha1::new();
        sha.update([0x99]);
        sha.update((length as u16).to_be_bytes());
        sha.update(body);
        found.push(hex::encode_upper(sha.finalize()));
    }
    Ok(found)
}

/// Tag, length and what is behind the header. `None`: no packet that a file of
/// keys may have; partial lengths are for data only.
fn header(head: u8, rest: &[u8]) -> Option<(u8, usize, &[u8])> {
    let number = |bytes: &[u8]| bytes.iter().fold(0usize, |n, byte| n << 8 | usize::from(*byte));
    if head & 0xc0 == 0xc0 {
        let (&first, rest) = rest.split_first()?;
        return match first {
            0..=191 => Some((head & 0x3f, first.into(), rest)),
            192..=223 => {
                let (&second, rest) = rest.split_first()?;
                let length = (usize::from(first) - 192) * 256 + usize::from(second) + 192;
                Some((head & 0x3f, length, rest))
            }
            255 => Some((head & 0x3f, number(rest.get(..4)?), &rest[4..])),
            _ => None,
        };
    }
    let size = match (head & 0x80, head & 3) {
        (0, _) | (_, 3) => return None,
        (_, kind) => 1usize << kind,
    };
    Some((head >> 2 & 0xf, number(rest.get(..size)?), &rest[size..]))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    // made with gpg for this test; its fingerprint as gpg prints it
    const KEY: &str = include_str!("test-key.asc");
    const FINGERPRINT: &str = include_str!("test-key.fingerprint");

    #[test]
    fn a_key_has_the_fingerprint_that_gpg_prints() {
        let armored = keys(KEY.as_bytes()).unwrap();
        assert!(armored.armored);
        assert_eq!(armored.fingerprints, [FINGERPRINT.trim()]);
        let binary = keys(&armored.binary).unwrap();
        assert_eq!((binary.armored, binary.fingerprints), (false, armored.fingerprints));
    }

    /// gpg writes such a block with the checksum that is compared here.
    #[test]
    fn only_what_was_parsed_is_written_back() {
        let one = keys(KEY.as_bytes()).unwrap();
        let again = String::from_utf8(one.armor()).unwrap();
        assert_eq!(keys(again.as_bytes()).unwrap(), one);
        let sum = |text: &str| {
            text.lines().find(|line| line.starts_with('=') && line.len() == 5).map(str::to_string)
        };
        assert_eq!(sum(&again), sum(KEY), "{again}");
        // a second block that this parser does not see, and rpm does
        let second = KEY.replace(BEGIN, &format!(" {BEGIN}"));
        let both = format!("{KEY}{second}");
        if let Ok(read) = keys(both.as_bytes()) {
            assert_eq!(read.armor(), one.armor());
        }
    }

    #[test]
    fn what_is_no_key_is_refused_and_never_panics() {
        for bad in [b"".as_slice(), b"<html>", b"\x99\x01", b"\xff\xff", BEGIN.as_bytes()] {
            assert!(keys(bad).is_err(), "{bad:?}");
        }
        let binary = keys(KEY.as_bytes()).unwrap().binary;
        for cut in 0..binary.len() {
            if let Ok(keys) = keys(&binary[..cut]) {
                assert_eq!(keys.fingerprints, [FINGERPRINT.trim()], "{cut}");
            }
            let mut changed = binary.clone();
            changed[cut] ^= 0x55;
            let _ = keys(&changed);
        }
        let twice = format!("{KEY}{KEY}");
        assert!(keys(twice.as_bytes()).unwrap_err().contains("more than one"));
    }
}
