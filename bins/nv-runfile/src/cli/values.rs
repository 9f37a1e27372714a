//! Arguments that several verbs have, and how values are read.

use std::path::PathBuf;

use clap::Args;

#[derive(Args, Debug)]
pub struct Files {
    /// Installers [default: runfile records from a pipe]
    ///
    /// Without a FILE runfile records are read from standard input.
    #[arg(value_name = "FILE")]
    pub files: Vec<PathBuf>,
}

/// Limits for what is unpacked.
#[derive(Args, Debug)]
pub struct Caps {
    /// Refuse more bytes in total (suffixes K, M, G, T)
    #[arg(long, value_name = "SIZE", default_value = "32G", value_parser = size, hide_short_help = true)]
    pub max_size: u64,

    /// Refuse more members
    #[arg(long, value_name = "NUMBER", default_value_t = 200_000, hide_short_help = true)]
    pub max_entries: u64,
}

/// The owner of unpacked files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// As in the archive.
    Archive,
    /// User and group.
    Ids(u32, u32),
}

pub fn sha256(text: &str) -> Result<String, String> {
    match text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit()) {
        true => Ok(text.to_ascii_lowercase()),
        false => Err("a SHA-256 has 64 hexadecimal digits".into()),
    }
}

/// A release as uname(2) gives it, which names a directory of /lib/modules.
pub fn kernel_release(text: &str) -> Result<String, String> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-+._~".contains(&b);
    match text.starts_with(|c: char| c.is_ascii_digit()) && text.bytes().all(plain) {
        true => Ok(text.into()),
        false => Err("expected a kernel release such as 6.14.11-4-pve".into()),
    }
}

pub fn owner(text: &str) -> Result<Owner, String> {
    // chown(2) takes the highest number for "leave it"
    let id = |text: &str| text.parse::<u32>().ok().filter(|id| *id != u32::MAX);
    let ids = match text.split_once(':') {
        _ if text == "archive" => return Ok(Owner::Archive),
        Some((user, group)) => id(user).zip(id(group)),
        None => id(text).map(|user| (user, user)),
    };
    let (user, group) = ids.ok_or("expected UID, UID:GID or 'archive'")?;
    Ok(Owner::Ids(user, group))
}

pub fn octal(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text, 8) {
        Ok(mask @ 0..=0o7777) if text.bytes().all(|b| b.is_ascii_digit()) => Ok(mask),
        _ => Err("expected an octal number up to 7777".into()),
    }
}

pub fn size(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(['K', 'M', 'G', 'T']);
    let shift = match &text[digits.len()..] {
        "" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        _ => return Err("expected a number of bytes such as 512M".into()),
    };
    let number = digits.parse::<u64>().ok().filter(|_| !digits.starts_with('+'));
    number
        .and_then(|n| n.checked_mul(1 << shift))
        .ok_or_else(|| "expected a number of bytes such as 512M".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_owners_and_masks_are_read_strictly() {
        assert_eq!(size("0"), Ok(0));
        assert_eq!(size("2G"), Ok(2 << 30));
        for bad in ["", "G", "1GG", "1g", "-1", "+1", "99999999T", "1.5G"] {
            assert!(size(bad).is_err(), "{bad}");
        }
        assert_eq!(owner("100000"), Ok(Owner::Ids(100_000, 100_000)));
        assert_eq!(owner("1:2"), Ok(Owner::Ids(1, 2)));
        for bad in ["", "root", "1:", ":1", "4294967295", "1:2:3"] {
            assert!(owner(bad).is_err(), "{bad}");
        }
        assert_eq!(octal("022"), Ok(0o22));
        for bad in ["", "8", "17777", "+7", "-1"] {
            assert!(octal(bad).is_err(), "{bad}");
        }
        assert!(sha256(&"A".repeat(64)).is_ok_and(|hex| hex == "a".repeat(64)));
        assert!(sha256(&"g".repeat(64)).is_err());
    }
}
