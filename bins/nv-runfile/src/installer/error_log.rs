//! The log of nvidia-installer.

/// Longer messages are cut, at a word.
const MOST: usize = 400;

/// Errors that only say that there was one.
const NO_CAUSE: [&str; 2] = ["Installation has failed", "An error occurred"];
/// How the log records the answer that ends an installation.
const ABORTED: &str = "(Answer: Abort installation)";

/// The first cause that a log gives, on one line: later errors often follow from it.
///
/// With --silent each question is answered with its default. Where that ends the
/// installation, the log has no error but the question: `-> You appear to be running an X
/// server ... (Answer: Abort installation)`.
pub fn first_error(log: &str) -> Option<String> {
    let lines: Vec<&str> = log.lines().collect();
    (0..lines.len()).find_map(|at| aborted(lines[at]).or_else(|| error_at(&lines, at)))
}

/// Each file that could not be made, in the installer's words. It goes on without it and
/// ends with status 0: that is the default answer to its question.
pub fn not_created(log: &str) -> Vec<String> {
    let errors = log.lines().filter_map(|line| line.trim_start().strip_prefix("ERROR:"));
    let errors = errors.map(str::trim).filter(|text| text.starts_with("Unable to create"));
    errors.map(shortened).collect()
}

fn aborted(line: &str) -> Option<String> {
    let question = line.trim().strip_prefix("->")?.trim_end().strip_suffix(ABORTED)?;
    Some(shortened(question))
}

/// The error that begins at a line, with what belongs to it.
fn error_at(lines: &[&str], at: usize) -> Option<String> {
    let first = lines[at].trim_start().strip_prefix("ERROR:")?.trim();
    if NO_CAUSE.iter().any(|words| first.starts_with(words)) {
        return None;
    }
    let mut text = first.to_string();
    let mut rest = lines[at + 1..].iter().copied().peekable();
    // its further lines are indented in older logs
    while let Some(line) = rest.next_if(|line| line.starts_with("  ") && !line.trim().is_empty()) {
        text = format!("{text} {}", line.trim());
    }
    let below = || rest.clone().take_while(|line| !is_entry(line)).map(str::trim);
    // the output of a command that failed stands below, after an empty line
    let failed = |line: &&str| line.contains("error:") || line.starts_with("***");
    let goes_on = || below().find(|line| text.ends_with(':') && !line.is_empty());
    if let Some(line) = below().find(failed).or_else(goes_on) {
        text = format!("{text} {line}");
    }
    let text = shortened(&text);
    (!text.is_empty()).then_some(text)
}

/// Whether a line begins an entry of the log.
fn is_entry(line: &str) -> bool {
    ["ERROR:", "WARNING:", "->"].iter().any(|mark| line.trim_start().starts_with(mark))
}

/// On one line, and cut behind a word.
fn shortened(text: &str) -> String {
    let mut short = String::new();
    for word in text.split_whitespace() {
        if short.len() + word.len() >= MOST {
            if short.is_empty() {
                short = word.chars().take(MOST / 4).collect();
            }
            return format!("{short} ...");
        }
        if !short.is_empty() {
            short.push(' ');
        }
        short.push_str(word);
    }
    short
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
        let long = first_error(&format!("ERROR: {}", "word ".repeat(1000))).unwrap();
        assert!(long.len() <= MOST + 4 && long.ends_with("word ..."), "{long}");
    }

    /// The question with its answer: user-interface.c; about the X server: misc.c of
    /// github.com/NVIDIA/nvidia-installer 590.48.01.
    #[test]
    fn an_installation_that_was_aborted_names_the_question() {
        let log = "-> Install NVIDIA's 32-bit compatibility libraries? (Answer: Yes)\n\
            -> You appear to be running an X server.  Installing the NVIDIA driver while X is \
            running is not recommended. (Answer: Abort installation)\n\
            ERROR: Installation has failed.  Please see the file '/var/log/nvidia-installer.log'\n";
        assert_eq!(
            first_error(log).as_deref(),
            Some(
                "You appear to be running an X server. Installing the NVIDIA driver while X is \
                 running is not recommended."
            )
        );
        assert_eq!(first_error("ERROR: Installation has failed.  Please see\n"), None);
    }

    #[test]
    fn the_output_of_a_command_that_failed_belongs_to_the_error() {
        let log = "ERROR: An error occurred while performing the step: \"Building kernel modules\".\n\
            ERROR: The kernel module build failed:\n\n\
            make[1]: Entering directory '/usr/src/linux-headers-6.17'\n\
            nvidia-drm-drv.c:231:6: error: 'struct drm_driver' has no member named 'date'\n\
            *** Target 'nvidia.ko' not made\n\
            -> done.\n\
            ERROR: other: error: later\n";
        assert_eq!(
            first_error(log).as_deref(),
            Some(
                "The kernel module build failed: nvidia-drm-drv.c:231:6: error: 'struct \
                 drm_driver' has no member named 'date'"
            )
        );
    }

    #[test]
    fn files_that_could_not_be_made_are_found_although_the_installer_succeeded() {
        let log = "ERROR: Unable to get file properties for '/usr/lib/libGL.so.1'\n\
            ERROR: Unable to create '/usr/lib64/libcuda.so.550.163.01' for copying \
            (Read-only file system)\n-> done.\n";
        assert_eq!(
            not_created(log),
            ["Unable to create '/usr/lib64/libcuda.so.550.163.01' for copying (Read-only file \
              system)"]
        );
    }
}
