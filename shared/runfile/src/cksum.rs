//! POSIX cksum(1): CRC-32 with polynomial 0x04c11db7, most significant bit
//! first, the length behind the data. zlib's crc32 is another one.

/// Bytes taken at a step.
const STEP: usize = 16;

/// `TABLES[k][b]`: what byte `b` followed by `k` zero bytes leaves.
static TABLES: [[u32; 256]; STEP] = tables();

const fn tables() -> [[u32; 256]; STEP] {
    let mut tables = [[0u32; 256]; STEP];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = (byte as u32) << 24;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000_0000 != 0 { (crc << 1) ^ 0x04c1_1db7 } else { crc << 1 };
            bit += 1;
        }
        tables[0][byte] = crc;
        byte += 1;
    }
    let mut k = 1;
    while k < STEP {
        let mut byte = 0;
        while byte < 256 {
            let crc = tables[k - 1][byte];
            tables[k][byte] = (crc << 8) ^ tables[0][(crc >> 24) as usize];
            byte += 1;
        }
        k += 1;
    }
    tables
}

/// A checksum in the making.
#[derive(Clone, Debug, Default)]
pub struct Cksum {
    crc: u32,
    length: u64,
}

impl Cksum {
    /// Of nothing yet.
    pub fn new() -> Cksum {
        Cksum::default()
    }

    /// Takes bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.length += bytes.len() as u64;
        let mut crc = self.crc;
        let mut chunks = bytes.chunks_exact(STEP);
        for chunk in &mut chunks {
            let head = crc.to_be_bytes();
            let mut next = 0;
            // the first four bytes meet what is left of all before them
            for (at, byte) in chunk.iter().enumerate() {
                let byte = if at < 4 { byte ^ head[at] } else { *byte };
                next ^= TABLES[STEP - 1 - at][byte as usize];
            }
            crc = next;
        }
        for byte in chunks.remainder() {
            crc = step(crc, *byte);
        }
        self.crc = crc;
    }

    /// The checksum, as `cksum` prints it.
    pub fn finish(&self) -> u32 {
        let mut crc = self.crc;
        let mut length = self.length;
        while length != 0 {
            crc = step(crc, length as u8);
            length >>= 8;
        }
        !crc
    }
}

fn step(crc: u32, byte: u8) -> u32 {
    (crc << 8) ^ TABLES[0][((crc >> 24) as u8 ^ byte) as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cksum(bytes: &[u8]) -> u32 {
        let mut cksum = Cksum::new();
        cksum.update(bytes);
        cksum.finish()
    }

    #[test]
    fn values_are_those_of_cksum() {
        // printf '' | cksum; printf 123456789 | cksum; head -c 100000 /dev/zero | cksum
        assert_eq!(cksum(b""), 4_294_967_295);
        assert_eq!(cksum(b"123456789"), 930_766_865);
        assert_eq!(cksum(&[0; 100_000]), ZEROS);
    }

    const ZEROS: u32 = 1_260_869_142;

    #[test]
    fn it_does_not_matter_how_the_bytes_come() {
        let bytes: Vec<u8> = (0..10_000u32).map(|n| (n * n % 251) as u8).collect();
        let whole = cksum(&bytes);
        for size in [1, 3, 16, 17, 4096] {
            let mut parts = Cksum::new();
            bytes.chunks(size).for_each(|chunk| parts.update(chunk));
            assert_eq!(parts.finish(), whole, "{size}");
        }
    }
}
