//! vGPU profiles: their names, and the lists in which the driver offers them.

use std::fmt;

/// One line of `creatable_vgpu_types`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct VgpuOffer {
    /// The driver's id, valid for this card and driver version.
    pub id: u32,
    /// The driver's name, `NVIDIA L40S-24Q`.
    pub name: String,
}

/// Parses `creatable_vgpu_types`: a heading or none, lines `1155  : NVIDIA L40S-24Q`.
///
/// The heading stays when nothing fits any more; a newer driver has none. A line
/// that does not begin with a number is passed over: it is a heading in whatever
/// words. Only the first colon separates.
pub fn parse_creatable(text: &str) -> Vec<VgpuOffer> {
    text.lines()
        .filter_map(|line| {
            let (id, name) = line.split_once(':')?;
            let (id, name) = (id.trim(), name.trim());
            let number = !id.is_empty() && id.bytes().all(|b| b.is_ascii_digit());
            let id = id.parse().ok().filter(|id| number && *id != 0)?;
            (!name.is_empty()).then(|| VgpuOffer { id, name: name.to_string() })
        })
        .collect()
}

/// A profile's name: board, slices of a MIG instance, framebuffer, series.
///
/// `L40S-24Q`, `RTX6000-Ada-8Q`, `A100-1-5CME`; also with `NVIDIA` or `GRID` and
/// the like in front, as drivers write it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Profile {
    short: String,
    size: u32,
    slices: Option<u32>,
}

impl Profile {
    /// The name's last word, and what it says. `None`: it has no such form.
    pub fn parse(name: &str) -> Option<Profile> {
        let short = name.split_whitespace().next_back()?;
        let (board, tail) = short.rsplit_once('-')?;
        let digits = tail.bytes().take_while(u8::is_ascii_digit).count();
        let (size, series) = tail.split_at(digits);
        let plain = (size == "0" || !size.starts_with('0')) && size.len() <= 4;
        let (series, attribute) = series.split_at_checked(1)?;
        if !plain || !["A", "B", "C", "Q"].contains(&series) {
            return None;
        }
        let size = size.parse().ok()?;
        let slices = board.rsplit_once('-').and_then(|(_, last)| match last.as_bytes() {
            [digit @ b'1'..=b'9'] => Some(u32::from(digit - b'0')),
            _ => None,
        });
        // DC-1-24QGFX: attributes are those of MIG instances only
        let known = match slices {
            Some(_) => ["", "ME", "NOME", "MEALL", "GFX"].contains(&attribute),
            // P40-2B4: a virtual PC with up to four displays
            None => attribute.is_empty() || (series, attribute) == ("B", "4"),
        };
        let words = board
            .split('-')
            .all(|word| !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric()));
        (known && words).then(|| Profile { short: short.to_string(), size, slices })
    }

    /// The last word of the name.
    pub fn short(&self) -> &str {
        &self.short
    }

    /// Framebuffer in MiB. The number in a name is in GiB; 0 stands for 512 MiB.
    pub fn mib(&self) -> u64 {
        match self.size {
            0 => 512,
            size => u64::from(size) * 1024,
        }
    }

    /// Slices of the MIG instance that it lives in; `None` for time-sliced ones.
    pub fn slices(&self) -> Option<u32> {
        self.slices
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.short)
    }
}

/// The last word of a name, which is what people write: `L40S-24Q`.
pub fn short_name(name: &str) -> &str {
    name.split_whitespace().next_back().unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lists_are_read_with_and_without_heading() {
        let offer = |id, name: &str| VgpuOffer { id, name: name.to_string() };
        for (text, offers) in [
            ("ID    : vGPU Name\n1147  : NVIDIA L40S-1Q\n", vec![offer(1147, "NVIDIA L40S-1Q")]),
            ("1147  : NVIDIA L40S-1Q\n", vec![offer(1147, "NVIDIA L40S-1Q")]),
            ("1147  : NVIDIA L40S-1Q", vec![offer(1147, "NVIDIA L40S-1Q")]),
            ("", vec![]),
            ("\n", vec![]),
            ("ID    : vGPU Name\n", vec![]),
            (
                "ID : vGPU Name\r\n7:A-1Q\r\n\r\n8 : B-2Q\r\n",
                vec![offer(7, "A-1Q"), offer(8, "B-2Q")],
            ),
            (
                "1519  : NVIDIA RTX Pro 6000 Blackwell DC-3Q\n",
                vec![offer(1519, "NVIDIA RTX Pro 6000 Blackwell DC-3Q")],
            ),
            ("5 : a: b-1Q\n", vec![offer(5, "a: b-1Q")]),
            ("  12   :   X-1Q  \n", vec![offer(12, "X-1Q")]),
            ("0 : none\n", vec![]),
            ("-5 : X\n+5 : X\n0x5 : X\n99999999999 : X\n : X\n5 :\n5\n:\n", vec![]),
            ("\u{fffd}\u{0}junk\n12 : X-1Q\n", vec![offer(12, "X-1Q")]),
        ] {
            assert_eq!(parse_creatable(text), offers, "{text:?}");
        }
    }

    #[test]
    fn names_say_size_and_slices() {
        for (name, short, mib, slices) in [
            ("NVIDIA L40S-24Q", "L40S-24Q", 24 << 10, None),
            ("L40S-1B", "L40S-1B", 1 << 10, None),
            ("GRID P40-2B4", "P40-2B4", 2 << 10, None),
            ("GRID M10-0Q", "M10-0Q", 512, None),
            ("NVIDIA RTX6000-Ada-8Q", "RTX6000-Ada-8Q", 8 << 10, None),
            ("NVIDIA RTX Pro 6000 Blackwell DC-3Q", "DC-3Q", 3 << 10, None),
            ("DC-1-24Q", "DC-1-24Q", 24 << 10, Some(1)),
            ("NVIDIA DC-2-48QGFX", "DC-2-48QGFX", 48 << 10, Some(2)),
            ("NVIDIA A100-1-5CME", "A100-1-5CME", 5 << 10, Some(1)),
            ("H100-1-10C", "H100-1-10C", 10 << 10, Some(1)),
            ("NVIDIA H200-141C", "H200-141C", 141 << 10, None),
        ] {
            let profile = Profile::parse(name).unwrap();
            assert_eq!((profile.short(), profile.mib(), profile.slices()), (short, mib, slices));
        }
        for name in [
            "",
            "-",
            "L40S",
            "L40S-",
            "L40S-Q",
            "L40S-24",
            "L40S-24X",
            "L40S-24QME",
            "L40S-24Q4",
            "L40S-04Q",
            "-24Q",
            "L40S--24Q",
            "L40S-24Qx",
            "L40S-99999Q",
            "1155",
            "L40S-24Q;rm",
            "L40S-24é",
        ] {
            assert_eq!(Profile::parse(name), None, "{name}");
        }
    }

    proptest! {
        #[test]
        fn no_text_upsets_the_parsers(text in "\\PC*|(?s:.{0,80})", lines in prop::collection::vec(("[0-9]{1,6}", "[A-Z0-9 :-]{1,12}"), 0..6)) {
            for offer in parse_creatable(&text) {
                prop_assert!(offer.id > 0 && !offer.name.is_empty() && offer.name.trim() == offer.name);
            }
            let _ = Profile::parse(&text);
            let written: String = lines.iter().map(|(id, name)| format!("{id:<5} : {name}\n")).collect();
            let valid = lines.iter().filter(|(id, name)| id.parse::<u32>().is_ok_and(|id| id > 0) && !name.trim().is_empty());
            prop_assert_eq!(parse_creatable(&written).len(), valid.count());
        }
    }
}
