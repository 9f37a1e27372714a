//! The log of nvidia-installer.

/// Longer messages are cut.
const MOST: usize = 400;

/// The first error of a log, on one line: later errors often follow from it.
pub fn first_error(log: &str) -> Option<String> {
    let mut lines = log.lines();
    let first = lines.find_map(|line| line.trim_start().strip_prefix("ERROR:"))?;
    // its further lines are indented
    let more = lines.take_while(|line| line.starts_with("  ") && !line.trim().is_empty());
    let words: Vec<&str> =
        std::iter::once(first).chain(more).flat_map(str::split_whitespace).collect();
    let text: String = words.join(" ").chars().take(MOST).collect();
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_error_counts_with_what_is_indented_below_it() {
        let log = "nvidia-installer log file '/var/log/nvidia-installer.log'\n\
            creation time: Tue Apr  8\n\
            -> Uninstalling the previous installation.\n\
            ERROR: Unable to find the module utility `modprobe`; please make sure you have\n       \
            the package 'module-init-tools' or 'kmod' installed.\n\
            ERROR: Installation has failed.  Please see the file\n";
        assert_eq!(
            first_error(log).as_deref(),
            Some(
                "Unable to find the module utility `modprobe`; please make sure you have the \
                 package 'module-init-tools' or 'kmod' installed."
            )
        );
        assert_eq!(first_error("-> done.\n"), None);
        assert_eq!(first_error("ERROR:\n"), None);
        assert!(first_error(&format!("ERROR: {}", "x ".repeat(1000))).unwrap().len() <= MOST);
    }
}
