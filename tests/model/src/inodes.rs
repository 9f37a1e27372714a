//! What the FUSE side remembers: inode numbers and open files.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Inode numbers by path and kind: a path whose kind changes is another inode.
#[derive(Default)]
pub(crate) struct Inodes {
    paths: Vec<(String, u8)>,
    numbers: HashMap<(String, u8), u64>,
}

/// An open file.
#[derive(Default)]
pub(crate) struct Handle {
    /// What the read at offset 0 gave, for the reads behind it.
    pub content: Vec<u8>,
    /// What close(2) shall do: nvidia acts on unbindLock when it is closed.
    pub at_close: Option<Vec<u8>>,
}

#[derive(Default)]
pub(crate) struct Open {
    pub handles: HashMap<u64, Handle>,
    last: u64,
}

impl Inodes {
    pub fn number(&mut self, path: &str, kind: u8) -> u64 {
        let key = (path.to_string(), kind);
        if let Some(number) = self.numbers.get(&key) {
            return *number;
        }
        self.paths.push(key.clone());
        let number = self.paths.len() as u64;
        self.numbers.insert(key, number);
        number
    }

    /// The canonical path of an inode.
    pub fn path(&self, number: u64) -> Option<String> {
        let at = usize::try_from(number).ok()?.checked_sub(1)?;
        self.paths.get(at).map(|(path, _)| path.clone())
    }
}

impl Open {
    pub fn add(&mut self) -> u64 {
        self.last += 1;
        self.handles.insert(self.last, Handle::default());
        self.last
    }
}

/// A lock that a panic elsewhere does not spoil.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
