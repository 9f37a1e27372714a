//! The undo journal: what a run has done, newest last, and how to take each
//! step back.

use crate::Machine;

type Undo<'a> = Box<dyn FnOnce(&Machine) -> Result<(), String> + 'a>;

/// Steps done so far. Release builds abort on panic, so undo never relies on
/// Drop: a caller either rolls back or keeps.
#[derive(Default)]
pub struct Journal<'a> {
    steps: Vec<(String, Undo<'a>)>,
}

/// How undoing one step went.
#[derive(Debug, PartialEq, Eq)]
pub struct Undone {
    /// The step's name.
    pub step: String,
    /// Why it could not be undone.
    pub error: Option<String>,
}

impl<'a> Journal<'a> {
    /// An empty journal.
    pub fn new() -> Journal<'a> {
        Journal { steps: Vec::new() }
    }

    /// Remembers a step that is about to be done, or just was, and how to undo it.
    pub fn record(
        &mut self,
        step: impl Into<String>,
        undo: impl FnOnce(&Machine) -> Result<(), String> + 'a,
    ) {
        self.steps.push((step.into(), Box::new(undo)));
    }

    /// Undoes everything, last step first. One that fails does not stop the
    /// others; what failed is in the answer.
    pub fn roll_back(self, machine: &Machine) -> Vec<Undone> {
        self.steps
            .into_iter()
            .rev()
            .map(|(step, undo)| Undone { step, error: undo(machine).err() })
            .collect()
    }

    /// Everything went well: forgets how to undo it.
    pub fn keep(self) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    #[test]
    fn steps_are_undone_last_first_and_a_failure_does_not_stop_the_rest() {
        let machine = Machine::new(None).unwrap();
        let seen = RefCell::new(Vec::new());
        let mut journal = Journal::new();
        for (n, fails) in [(1, false), (2, true), (3, false)] {
            let seen = &seen;
            journal.record(format!("step {n}"), move |_| {
                seen.borrow_mut().push(n);
                if fails { Err("no".into()) } else { Ok(()) }
            });
        }
        let undone = journal.roll_back(&machine);
        assert_eq!(*seen.borrow(), [3, 2, 1]);
        let failed: Vec<_> = undone.iter().filter(|u| u.error.is_some()).collect();
        assert_eq!(failed.len(), 1);
        assert_eq!(failed[0].step, "step 2");
    }
}
