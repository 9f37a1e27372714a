//! What others say about installers: the table of known SHA-256, and lists in
//! the form that sha256sum(1) writes.

use crate::is_version;

/// The table that comes with this crate.
pub const KNOWN: &str = include_str!("../data/known.txt");

/// One row of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownFile {
    /// Version as NVIDIA writes it.
    pub version: String,
    /// `x86_64`, `aarch64`, ...
    pub arch: String,
    /// Bytes, where they are known.
    pub size: Option<u64>,
    /// Lower case hex.
    pub sha256: String,
    /// Directory on NVIDIA's servers, where it is known.
    pub dir: Option<String>,
}

/// Reads a table. Errors: a line that is not a row, with its number.
pub fn known_files(text: &str) -> Result<Vec<KnownFile>, String> {
    let lines = text.lines().enumerate().map(|(at, line)| (at + 1, line.trim()));
    let rows = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    rows.map(|(at, line)| row(line).ok_or_else(|| format!("line {at} is not a row of the table")))
        .collect()
}

fn row(line: &str) -> Option<KnownFile> {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let [version, arch, size, sha256, dir] = words.as_slice() else { return None };
    let size = match *size {
        "-" => None,
        digits if digits.bytes().all(|b| b.is_ascii_digit()) => Some(digits.parse().ok()?),
        _ => return None,
    };
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"/_.-".contains(&b);
    let dir_fits = dir.bytes().all(plain) && !dir.starts_with('/') && !dir.contains("..");
    let fits = is_version(version) && arch.bytes().all(plain) && is_sha256(sha256) && dir_fits;
    fits.then(|| KnownFile {
        version: (*version).into(),
        arch: (*arch).into(),
        size,
        sha256: sha256.to_ascii_lowercase(),
        dir: Some(*dir).filter(|dir| *dir != "-").map(str::to_string),
    })
}

fn is_sha256(word: &str) -> bool {
    word.len() == 64 && word.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Reads lines as sha256sum(1) writes them: digest, two spaces (or one and
/// `*`), file name; or with --tag, as BSD's sha256(1) does: `SHA256 (NAME) = DIGEST`.
/// Gives name and digest; directories in names are dropped.
/// Errors: a line is none, with its number.
pub fn sha256_sums(text: &str) -> Result<Vec<(String, String)>, String> {
    let lines = text.lines().enumerate().map(|(at, line)| (at + 1, line.trim_end()));
    let rows = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    rows.map(|(at, line)| {
        sum(line).ok_or_else(|| format!("line {at} is not in the format of sha256sum"))
    })
    .collect()
}

fn sum(line: &str) -> Option<(String, String)> {
    let tagged = line.strip_prefix("SHA256 (").and_then(|rest| rest.rsplit_once(") = "));
    let (name, digest) = match tagged {
        Some(tagged) => tagged,
        None => {
            let (digest, name) = line.split_once(' ')?;
            (name.strip_prefix([' ', '*'])?, digest)
        }
    };
    let name = name.rsplit('/').next().filter(|name| !name.is_empty())?;
    is_sha256(digest).then(|| (name.to_string(), digest.to_ascii_lowercase()))
}

/// The digest of a file that holds nothing else, as some servers have it beside the file
/// that it is of.
pub fn lone_sha256(text: &str) -> Option<String> {
    Some(text.trim()).filter(|text| is_sha256(text)).map(str::to_ascii_lowercase)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nvidia::compare_versions;
    use std::cmp::Ordering;

    #[test]
    fn the_table_is_well_formed_in_order_and_without_repetition() {
        let rows = known_files(KNOWN).unwrap();
        assert!(rows.len() > 40);
        let x86 = |row: &KnownFile| row.arch != "x86_64";
        for pair in rows.windows(2) {
            let order = x86(&pair[0]).cmp(&x86(&pair[1]));
            let order = order.then_with(|| compare_versions(&pair[0].version, &pair[1].version));
            assert_eq!(order, Ordering::Less, "{pair:?}");
        }
        for row in &rows {
            assert!(row.size.is_none_or(|size| size > 200_000_000), "{row:?}");
            assert!(row.dir.as_ref().is_none_or(|dir| dir.ends_with(&row.version)), "{row:?}");
        }
        let known = rows.iter().find(|row| row.version == "550.163.01").unwrap();
        assert_eq!(known.size, Some(307_143_336));
        assert!(known.sha256.starts_with("ef8149f5"));
    }

    #[test]
    fn what_is_no_row_is_told_by_its_line() {
        let hex = "a".repeat(64);
        assert!(known_files(&format!("# x\n\n550.1 x86_64 - {hex} -\n")).is_ok());
        for bad in [
            "550.1 x86_64 - zz -".to_string(),
            format!("550.1 x86_64 +1 {hex} -"),
            format!("550 x86_64 1 {hex} -"),
            format!("550.1 x86_64 1 {hex}"),
            format!("550.1 x86_64 1 {hex} ../../etc"),
            format!("550.1 x86_64 1 {hex} /etc"),
            format!("550.1 x86_64 1 {hex} http://x"),
        ] {
            assert_eq!(
                known_files(&format!("\n{bad}")).unwrap_err(),
                "line 2 is not a row of the table"
            );
        }
    }

    #[test]
    fn sums_are_read_as_sha256sum_writes_them() {
        let hex = "A".repeat(64);
        let name = "NVIDIA-Linux-x86_64-580.159.03.run";
        for line in [
            format!("{hex}  {name}\n"),
            format!("{hex} *{name}"),
            format!("{hex}  a/b/{name}\r\n"),
            format!("SHA256 ({name}) = {hex}\n"),
        ] {
            assert_eq!(sha256_sums(&line).unwrap(), [(name.to_string(), "a".repeat(64))]);
        }
        for bad in [
            name.to_string(),
            format!("{hex} {name}"),
            format!("{hex}x  {name}"),
            format!("{hex}  "),
        ] {
            assert!(sha256_sums(&bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn versions_compare_as_numbers() {
        for (older, newer) in [
            ("580.126.20", "580.142"),
            ("575.64", "575.64.03"),
            ("99.1", "550.54.14"),
            ("570.9", "570.10"),
        ] {
            assert_eq!(compare_versions(older, newer), Ordering::Less, "{older} {newer}");
        }
    }
}
