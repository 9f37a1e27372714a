//! This boot's kernel log.

use std::io;

use crate::{FileError, Machine};

/// syslog(2): read the whole ring buffer, without clearing it; its size.
const READ_ALL: i32 = 3;
const SIZE: i32 = 10;

/// A log file of this boot has a few megabytes.
const MOST: usize = 256 << 20;
/// The first line of a boot.
const BOOT: &str = "Linux version ";

impl Machine {
    /// The kernel's messages since the host booted, as far as the kernel still
    /// has them: its buffer holds some thousand lines. Below `--root` what
    /// /var/log/kern.log has of the last boot. Errors: neither may be read.
    pub fn kernel_log(&self) -> Result<String, FileError> {
        if self.is_host() {
            return ring_buffer().map_err(|source| self.error("read", "/dev/kmsg", source));
        }
        let text = self.read_text("/var/log/kern.log", MOST)?;
        let last = text.rfind(BOOT).unwrap_or(0);
        let start = text[..last].rfind('\n').map_or(0, |at| at + 1);
        Ok(text[start..].to_string())
    }
}

fn ring_buffer() -> io::Result<String> {
    let call = |what: i32, buffer: &mut [u8]| -> io::Result<usize> {
        let length = i32::try_from(buffer.len()).map_err(io::Error::other)?;
        // SAFETY: the kernel writes at most the buffer's length.
        let got = unsafe { libc::klogctl(what, buffer.as_mut_ptr().cast(), length) };
        usize::try_from(got).map_err(|_| io::Error::last_os_error())
    };
    let size = call(SIZE, &mut [])?;
    let mut buffer = vec![0u8; size];
    let filled = call(READ_ALL, &mut buffer)?;
    buffer.truncate(filled);
    Ok(String::from_utf8_lossy(&buffer).into_owned())
}
