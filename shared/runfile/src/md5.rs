//! MD5, as fast as one core goes: it is what verifying a driver's installer
//! waits for. NVIDIA's files carry it; it proves that a download is whole and
//! nothing else.
//!
//! Each of its 64 steps waits for the one before, so that what counts is how
//! many operations lie between two results. The steps are written so that the
//! newest value comes in as late as it can: its second function is taken as a
//! sum of two halves that have no bit in common, one of which is known early.
//! Compilers turn that back into the textbook's form, hence the assembly.

const BLOCK: usize = 64;

/// An MD5 in the making.
#[derive(Clone, Debug)]
pub(crate) struct Md5 {
    state: [u32; 4],
    length: u64,
    held: [u8; BLOCK],
}

impl Md5 {
    /// Of nothing yet.
    pub(crate) fn new() -> Md5 {
        let state = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476];
        Md5 { state, length: 0, held: [0; BLOCK] }
    }

    /// Takes bytes.
    pub(crate) fn update(&mut self, mut bytes: &[u8]) {
        let held = (self.length % BLOCK as u64) as usize;
        self.length = self.length.wrapping_add(bytes.len() as u64);
        if held > 0 {
            let most = bytes.len().min(BLOCK - held);
            self.held[held..held + most].copy_from_slice(&bytes[..most]);
            if held + most < BLOCK {
                return;
            }
            let block = self.held;
            run(&mut self.state, &block);
            bytes = &bytes[most..];
        }
        let whole = bytes.len() - bytes.len() % BLOCK;
        run(&mut self.state, &bytes[..whole]);
        let rest = &bytes[whole..];
        self.held[..rest.len()].copy_from_slice(rest);
    }

    /// The digest.
    pub(crate) fn finish(mut self) -> [u8; 16] {
        let bits = self.length.wrapping_mul(8);
        let held = (self.length % BLOCK as u64) as usize;
        let padding = if held < 56 { 56 - held } else { 120 - held };
        let mut tail = [0; 2 * BLOCK];
        tail[0] = 0x80;
        tail[padding..padding + 8].copy_from_slice(&bits.to_le_bytes());
        self.update(&tail[..padding + 8]);
        let mut digest = [0; 16];
        for (out, word) in digest.chunks_exact_mut(4).zip(self.state) {
            out.copy_from_slice(&word.to_le_bytes());
        }
        digest
    }
}

/// Takes whole blocks.
fn run(state: &mut [u32; 4], blocks: &[u8]) {
    #[cfg(target_arch = "x86_64")]
    x86_64::compress(state, blocks);
    #[cfg(not(target_arch = "x86_64"))]
    portable::compress(state, blocks);
}

/// The steps of one block: function, values (the second is the newest), word of
/// the block, rotation, constant.
macro_rules! steps {
    ($step:ident, $a:ident, $b:ident, $c:ident, $d:ident) => {
        $step!(f, $a, $b, $c, $d, 0, 7, 0xd76a_a478);
        $step!(f, $d, $a, $b, $c, 1, 12, 0xe8c7_b756);
        $step!(f, $c, $d, $a, $b, 2, 17, 0x2420_70db);
        $step!(f, $b, $c, $d, $a, 3, 22, 0xc1bd_ceee);
        $step!(f, $a, $b, $c, $d, 4, 7, 0xf57c_0faf);
        $step!(f, $d, $a, $b, $c, 5, 12, 0x4787_c62a);
        $step!(f, $c, $d, $a, $b, 6, 17, 0xa830_4613);
        $step!(f, $b, $c, $d, $a, 7, 22, 0xfd46_9501);
        $step!(f, $a, $b, $c, $d, 8, 7, 0x6980_98d8);
        $step!(f, $d, $a, $b, $c, 9, 12, 0x8b44_f7af);
        $step!(f, $c, $d, $a, $b, 10, 17, 0xffff_5bb1);
        $step!(f, $b, $c, $d, $a, 11, 22, 0x895c_d7be);
        $step!(f, $a, $b, $c, $d, 12, 7, 0x6b90_1122);
        $step!(f, $d, $a, $b, $c, 13, 12, 0xfd98_7193);
        $step!(f, $c, $d, $a, $b, 14, 17, 0xa679_438e);
        $step!(f, $b, $c, $d, $a, 15, 22, 0x49b4_0821);
        $step!(g, $a, $b, $c, $d, 1, 5, 0xf61e_2562);
        $step!(g, $d, $a, $b, $c, 6, 9, 0xc040_b340);
        $step!(g, $c, $d, $a, $b, 11, 14, 0x265e_5a51);
        $step!(g, $b, $c, $d, $a, 0, 20, 0xe9b6_c7aa);
        $step!(g, $a, $b, $c, $d, 5, 5, 0xd62f_105d);
        $step!(g, $d, $a, $b, $c, 10, 9, 0x0244_1453);
        $step!(g, $c, $d, $a, $b, 15, 14, 0xd8a1_e681);
        $step!(g, $b, $c, $d, $a, 4, 20, 0xe7d3_fbc8);
        $step!(g, $a, $b, $c, $d, 9, 5, 0x21e1_cde6);
        $step!(g, $d, $a, $b, $c, 14, 9, 0xc337_07d6);
        $step!(g, $c, $d, $a, $b, 3, 14, 0xf4d5_0d87);
        $step!(g, $b, $c, $d, $a, 8, 20, 0x455a_14ed);
        $step!(g, $a, $b, $c, $d, 13, 5, 0xa9e3_e905);
        $step!(g, $d, $a, $b, $c, 2, 9, 0xfcef_a3f8);
        $step!(g, $c, $d, $a, $b, 7, 14, 0x676f_02d9);
        $step!(g, $b, $c, $d, $a, 12, 20, 0x8d2a_4c8a);
        $step!(h, $a, $b, $c, $d, 5, 4, 0xfffa_3942);
        $step!(h, $d, $a, $b, $c, 8, 11, 0x8771_f681);
        $step!(h, $c, $d, $a, $b, 11, 16, 0x6d9d_6122);
        $step!(h, $b, $c, $d, $a, 14, 23, 0xfde5_380c);
        $step!(h, $a, $b, $c, $d, 1, 4, 0xa4be_ea44);
        $step!(h, $d, $a, $b, $c, 4, 11, 0x4bde_cfa9);
        $step!(h, $c, $d, $a, $b, 7, 16, 0xf6bb_4b60);
        $step!(h, $b, $c, $d, $a, 10, 23, 0xbebf_bc70);
        $step!(h, $a, $b, $c, $d, 13, 4, 0x289b_7ec6);
        $step!(h, $d, $a, $b, $c, 0, 11, 0xeaa1_27fa);
        $step!(h, $c, $d, $a, $b, 3, 16, 0xd4ef_3085);
        $step!(h, $b, $c, $d, $a, 6, 23, 0x0488_1d05);
        $step!(h, $a, $b, $c, $d, 9, 4, 0xd9d4_d039);
        $step!(h, $d, $a, $b, $c, 12, 11, 0xe6db_99e5);
        $step!(h, $c, $d, $a, $b, 15, 16, 0x1fa2_7cf8);
        $step!(h, $b, $c, $d, $a, 2, 23, 0xc4ac_5665);
        $step!(i, $a, $b, $c, $d, 0, 6, 0xf429_2244);
        $step!(i, $d, $a, $b, $c, 7, 10, 0x432a_ff97);
        $step!(i, $c, $d, $a, $b, 14, 15, 0xab94_23a7);
        $step!(i, $b, $c, $d, $a, 5, 21, 0xfc93_a039);
        $step!(i, $a, $b, $c, $d, 12, 6, 0x655b_59c3);
        $step!(i, $d, $a, $b, $c, 3, 10, 0x8f0c_cc92);
        $step!(i, $c, $d, $a, $b, 10, 15, 0xffef_f47d);
        $step!(i, $b, $c, $d, $a, 1, 21, 0x8584_5dd1);
        $step!(i, $a, $b, $c, $d, 8, 6, 0x6fa8_7e4f);
        $step!(i, $d, $a, $b, $c, 15, 10, 0xfe2c_e6e0);
        $step!(i, $c, $d, $a, $b, 6, 15, 0xa301_4314);
        $step!(i, $b, $c, $d, $a, 13, 21, 0x4e08_11a1);
        $step!(i, $a, $b, $c, $d, 4, 6, 0xf753_7e82);
        $step!(i, $d, $a, $b, $c, 11, 10, 0xbd3a_f235);
        $step!(i, $c, $d, $a, $b, 2, 15, 0x2ad7_d2bb);
        $step!(i, $b, $c, $d, $a, 9, 21, 0xeb86_d391);
    };
}

#[cfg(any(test, not(target_arch = "x86_64")))]
mod portable {
    use super::BLOCK;

    pub(super) fn compress(state: &mut [u32; 4], blocks: &[u8]) {
        let [mut a, mut b, mut c, mut d] = *state;
        for block in blocks.chunks_exact(BLOCK) {
            let mut m = [0u32; 16];
            for (word, bytes) in m.iter_mut().zip(block.chunks_exact(4)) {
                *word = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            }
            macro_rules! step {
                (f, $a:ident, $b:ident, $c:ident, $d:ident, $m:literal, $s:literal, $k:literal) => {
                    step!($a, $b, (($c ^ $d) & $b) ^ $d, $m, $s, $k)
                };
                (g, $a:ident, $b:ident, $c:ident, $d:ident, $m:literal, $s:literal, $k:literal) => {
                    step!($a, $b, (!$d & $c) | ($d & $b), $m, $s, $k)
                };
                (h, $a:ident, $b:ident, $c:ident, $d:ident, $m:literal, $s:literal, $k:literal) => {
                    step!($a, $b, $c ^ $d ^ $b, $m, $s, $k)
                };
                (i, $a:ident, $b:ident, $c:ident, $d:ident, $m:literal, $s:literal, $k:literal) => {
                    step!($a, $b, (!$d | $b) ^ $c, $m, $s, $k)
                };
                ($a:ident, $b:ident, $f:expr, $m:literal, $s:literal, $k:literal) => {
                    $a = $a.wrapping_add(m[$m]).wrapping_add($k).wrapping_add($f);
                    $a = $a.rotate_left($s).wrapping_add($b);
                };
            }
            let before = [a, b, c, d];
            steps!(step, a, b, c, d);
            a = a.wrapping_add(before[0]);
            b = b.wrapping_add(before[1]);
            c = c.wrapping_add(before[2]);
            d = d.wrapping_add(before[3]);
        }
        *state = [a, b, c, d];
    }
}

#[cfg(target_arch = "x86_64")]
mod x86_64 {
    use std::arch::asm;

    use super::BLOCK;

    pub(super) fn compress(state: &mut [u32; 4], blocks: &[u8]) {
        let [mut a, mut b, mut c, mut d] = *state;
        for block in blocks.chunks_exact(BLOCK) {
            let words = block.as_ptr();
            macro_rules! step {
                (f, $a:ident, $b:ident, $c:ident, $d:ident, $m:literal, $s:literal, $k:literal) => {
                    step!($a, $b, $c, $d, $m, $s, $k,
                        "mov {t:e}, {c:e}", "xor {t:e}, {d:e}", "and {t:e}, {b:e}",
                        "xor {t:e}, {d:e}")
                };
                (g, $a:ident, $b:ident, $c:ident, $d:ident, $m:literal, $s:literal, $k:literal) => {
                    step!($a, $b, $c, $d, $m, $s, $k,
                        "mov {t:e}, {d:e}", "not {t:e}", "and {t:e}, {c:e}", "add {a:e}, {t:e}",
                        "mov {t:e}, {d:e}", "and {t:e}, {b:e}")
                };
                (h, $a:ident, $b:ident, $c:ident, $d:ident, $m:literal, $s:literal, $k:literal) => {
                    step!($a, $b, $c, $d, $m, $s, $k,
                        "mov {t:e}, {c:e}", "xor {t:e}, {d:e}", "xor {t:e}, {b:e}")
                };
                (i, $a:ident, $b:ident, $c:ident, $d:ident, $m:literal, $s:literal, $k:literal) => {
                    step!($a, $b, $c, $d, $m, $s, $k,
                        "mov {t:e}, {d:e}", "not {t:e}", "or {t:e}, {b:e}", "xor {t:e}, {c:e}")
                };
                ($a:ident, $b:ident, $c:ident, $d:ident, $m:literal, $s:literal, $k:literal,
                 $($f:literal),*) => {
                    // SAFETY: reads four of the 64 bytes at `words`, which are in
                    // `block`, and changes nothing but its registers.
                    unsafe {
                        asm!(
                            "add {a:e}, dword ptr [{words} + {at}]",
                            "add {a:e}, {k}",
                            $($f,)*
                            "add {a:e}, {t:e}",
                            "rol {a:e}, {s}",
                            "add {a:e}, {b:e}",
                            a = inout(reg) $a, b = in(reg) $b, c = in(reg) $c, d = in(reg) $d,
                            words = in(reg) words, t = out(reg) _,
                            at = const 4 * $m, k = const ($k as u32 as i32), s = const $s,
                            options(pure, readonly, nostack),
                        );
                    }
                };
            }
            let before = [a, b, c, d];
            steps!(step, a, b, c, d);
            a = a.wrapping_add(before[0]);
            b = b.wrapping_add(before[1]);
            c = c.wrapping_add(before[2]);
            d = d.wrapping_add(before[3]);
        }
        *state = [a, b, c, d];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn md5(bytes: &[u8]) -> String {
        let mut md5 = Md5::new();
        md5.update(bytes);
        md5.finish().iter().map(|b| format!("{b:02x}")).collect()
    }

    #[test]
    fn values_are_those_of_rfc_1321() {
        for (text, digest) in [
            ("", "d41d8cd98f00b204e9800998ecf8427e"),
            ("a", "0cc175b9c0f1b6a831c399e269772661"),
            ("abc", "900150983cd24fb0d6963f7d28e17f72"),
            ("message digest", "f96b697d7cb7938d525a2f31aaf161d0"),
            (
                "12345678901234567890123456789012345678901234567890123456789012345678901234567890",
                "57edf4a22be3c955ac49da2e2107b67a",
            ),
        ] {
            assert_eq!(md5(text.as_bytes()), digest, "{text}");
        }
    }

    #[test]
    fn every_length_and_every_cut_gives_the_same() {
        let bytes: Vec<u8> = (0..400u32).map(|n| (n * 7 + n / 3) as u8).collect();
        for length in 0..bytes.len() {
            let whole = md5(&bytes[..length]);
            // another implementation
            let other = md5_of_another_crate(&bytes[..length]);
            assert_eq!(whole, other, "{length}");
            let mut parts = Md5::new();
            bytes[..length].chunks(1 + length % 97).for_each(|part| parts.update(part));
            let parts: String = parts.finish().iter().map(|b| format!("{b:02x}")).collect();
            assert_eq!(parts, whole, "{length}");
        }
    }

    #[test]
    fn the_portable_form_says_the_same() {
        let blocks: Vec<u8> = (0..10 * BLOCK).map(|n| (n * n / 7) as u8).collect();
        let (mut one, mut other) = (Md5::new().state, Md5::new().state);
        run(&mut one, &blocks);
        portable::compress(&mut other, &blocks);
        assert_eq!(one, other);
    }

    fn md5_of_another_crate(bytes: &[u8]) -> String {
        use ::md5::Digest;
        ::md5::Md5::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
    }
}
