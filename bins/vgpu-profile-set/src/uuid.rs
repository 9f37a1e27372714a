//! Stable names of mediated devices: version 5 UUIDs (RFC 9562) of parent and
//! number, so that a machine has the same ones after every boot.

use record::Address;

/// Of this tool; made once, by chance.
const NAMESPACE: [u8; 16] = [
    0x6a, 0x0e, 0x51, 0x5c, 0x6b, 0x4f, 0x4d, 0x0b, 0x9b, 0x5c, 0x3f, 0x1e, 0x80, 0x7c, 0xd2, 0x41,
];

/// How many devices of ours one parent can have: the smallest profile of the
/// largest card fits less often.
const MOST: u32 = 128;

/// The UUID of a parent's device with this number.
pub fn of(parent: Address, number: u32) -> String {
    v5(NAMESPACE, format!("{parent}/{number}").as_bytes())
}

/// The number of a device on its parent, if the UUID is one of ours.
pub fn number_of(parent: Address, uuid: &str) -> Option<u32> {
    (0..MOST).find(|number| of(parent, *number).eq_ignore_ascii_case(uuid))
}

fn v5(namespace: [u8; 16], name: &[u8]) -> String {
    let mut bytes = namespace.to_vec();
    bytes.extend_from_slice(name);
    let mut id = [0u8; 16];
    id.copy_from_slice(&sha1(&bytes)[..16]);
    id[6] = id[6] & 0x0f | 0x50;
    id[8] = id[8] & 0x3f | 0x80;
    let hex: String = id.iter().map(|b| format!("{b:02x}")).collect();
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// FIPS 180-4. Version 5 asks for it; nothing here hangs on its strength.
fn sha1(message: &[u8]) -> [u8; 20] {
    let mut state = [0x6745_2301u32, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476, 0xc3d2_e1f0];
    let mut padded = message.to_vec();
    padded.push(0x80);
    while padded.len() % 64 != 56 {
        padded.push(0);
    }
    padded.extend_from_slice(&(message.len() as u64 * 8).to_be_bytes());
    for block in padded.chunks_exact(64) {
        let mut words = [0u32; 80];
        for (word, bytes) in words.iter_mut().zip(block.chunks_exact(4)) {
            *word = bytes.iter().fold(0, |word, byte| word << 8 | u32::from(*byte));
        }
        for at in 16..80 {
            let mixed = words[at - 3] ^ words[at - 8] ^ words[at - 14] ^ words[at - 16];
            words[at] = mixed.rotate_left(1);
        }
        let [mut a, mut b, mut c, mut d, mut e] = state;
        for (at, word) in words.iter().enumerate() {
            let (mix, constant) = match at {
                0..20 => (b & c | !b & d, 0x5a82_7999),
                20..40 => (b ^ c ^ d, 0x6ed9_eba1),
                40..60 => (b & c | b & d | c & d, 0x8f1b_bcdc),
                _ => (b ^ c ^ d, 0xca62_c1d6u32),
            };
            let next = a
                .rotate_left(5)
                .wrapping_add(mix)
                .wrapping_add(e)
                .wrapping_add(constant)
                .wrapping_add(*word);
            (e, d, c, b, a) = (d, c, b.rotate_left(30), a, next);
        }
        for (sum, value) in state.iter_mut().zip([a, b, c, d, e]) {
            *sum = sum.wrapping_add(value);
        }
    }
    let mut digest = [0u8; 20];
    for (bytes, word) in digest.chunks_exact_mut(4).zip(state) {
        bytes.copy_from_slice(&word.to_be_bytes());
    }
    digest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_digests_and_names_come_out() {
        let hex = |bytes: &[u8]| sha1(bytes).iter().map(|b| format!("{b:02x}")).collect::<String>();
        assert_eq!(hex(b""), "da39a3ee5e6b4b0d3255bfef95601890afd80709");
        assert_eq!(hex(b"abc"), "a9993e364706816aba3e25717850c26c9cd0d89d");
        assert_eq!(hex(&[b'a'; 1000]), "291e9a6c66994949b57ba5e650361e98fc36b1ba");
        // RFC 9562, A.4: the DNS namespace and www.example.com
        let dns = [
            0x6b, 0xa7, 0xb8, 0x10, 0x9d, 0xad, 0x11, 0xd1, 0x80, 0xb4, 0, 0xc0, 0x4f, 0xd4, 0x30,
            0xc8,
        ];
        assert_eq!(v5(dns, b"www.example.com"), "2ed6657d-e927-568b-95e1-2665a8aea6a2");
    }

    #[test]
    fn numbers_are_found_again() {
        let parent = "0000:3b:00.0".parse().unwrap();
        assert_eq!(number_of(parent, &of(parent, 7)), Some(7));
        assert_eq!(number_of("0000:3c:00.0".parse().unwrap(), &of(parent, 7)), None);
        assert_eq!(of(parent, 0), of(parent, 0));
    }
}
