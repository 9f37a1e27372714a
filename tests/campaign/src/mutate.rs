//! The same random numbers for the same seed, and what they do to bytes.

/// xorshift64*.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn draw(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Below `end`, which is not 0.
    pub fn below(&mut self, end: usize) -> usize {
        ((self.draw() >> 16) % end as u64) as usize
    }

    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }
}

/// Words that formats of the field trip over.
const WORDS: [&[u8]; 22] = [
    b"0",
    b"-1",
    b"4294967296",
    b"18446744073709551616",
    b"0x",
    b"\n",
    b"\r\n",
    b"\0",
    b"../../..",
    b"/dev/nvidia0",
    b"\xff\xfe",
    b"\x1b[31m",
    b"{",
    b"}",
    b"[",
    b"*",
    b": ",
    b"\"",
    b"&a",
    b"*a",
    b"NaN",
    b"\xe2\x80\xae",
];

/// A few bytes changed, cut out, repeated, put in or taken from another seed.
pub fn mutate(random: &mut Random, seed: &[u8], others: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..1 + random.below(6) {
        // half of the edits hit the head, where every byte counts
        let range = if random.below(2) == 0 { bytes.len().min(300) } else { bytes.len() };
        let at = random.below(range + 1);
        let length = 1 + random.below(40);
        let end = (at + length).min(bytes.len());
        match random.below(9) {
            0 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            1 if at < bytes.len() => bytes[at] = random.draw() as u8,
            2 => drop(bytes.drain(at..end)),
            3 => {
                let again = bytes[at..end].repeat(1 + random.below(20));
                drop(bytes.splice(at..at, again));
            }
            4 => drop(bytes.splice(at..at, random.pick(&WORDS).iter().copied())),
            5 => drop(bytes.splice(at..end, random.pick(&WORDS).iter().copied())),
            6 => {
                let digits = (1u64 << random.below(64)).to_string();
                drop(bytes.splice(at..at, digits.into_bytes()));
            }
            7 if !others.is_empty() => {
                let other = random.pick(others);
                let from = random.below(other.len() + 1);
                let to = (from + length).min(other.len());
                drop(bytes.splice(at..end, other[from..to].to_vec()));
            }
            8 if random.below(4) == 0 => bytes.truncate(at),
            _ => {}
        }
    }
    bytes
}
