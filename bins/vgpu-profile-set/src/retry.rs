//! When `watch` tries again what failed: after growing pauses, and what cleared a
//! profile in vain only when the file or the host has changed.

use std::collections::BTreeMap;
use std::time::Duration;

use record::Address;

use crate::plan::model::ProfileStep;

/// No pause gets longer, unless the interval is.
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

/// A function, and the UUID of a mediated device on it; what concerns a GPU as a
/// whole is at the GPU.
pub type RetryKey = (Address, Option<String>);

/// What was tried and failed, by what it was for. `P` is what there is to say about it while it is not tried.
#[derive(Debug)]
pub struct Retries<P> {
    interval: Duration,
    failed: BTreeMap<RetryKey, FailedAttempt<P>>,
}

#[derive(Debug)]
struct FailedAttempt<P> {
    /// What was tried. Another file or another state of the host makes other
    /// steps, which are tried at once.
    steps: Vec<ProfileStep>,
    failures: u32,
    /// Since the start of `watch`; `None`: not while the steps are the same.
    next: Option<Duration>,
    problem: P,
}

impl<P> Retries<P> {
    /// Nothing has failed. The first pause is as long as the interval.
    pub fn new(interval: Duration) -> Retries<P> {
        Retries { interval, failed: BTreeMap::new() }
    }

    /// The problem for which these steps are not tried at this time; `None`: try.
    pub fn pausing(&self, at: &RetryKey, steps: &[ProfileStep], now: Duration) -> Option<&P> {
        let failed = self.failed.get(at).filter(|failed| failed.steps == steps)?;
        let waits = failed.next.is_none_or(|next| now < next);
        waits.then_some(&failed.problem)
    }

    /// Remembers that these steps failed. `cleared`: a profile was cleared for
    /// them.
    pub fn failed(
        &mut self,
        at: RetryKey,
        steps: &[ProfileStep],
        cleared: bool,
        now: Duration,
        problem: P,
    ) {
        let before = self.failed.remove(&at).filter(|before| before.steps == steps);
        let failures = before.map_or(1, |before| before.failures.saturating_add(1));
        let pause = self.interval.saturating_mul(1 << (failures - 1).min(12));
        let pause = pause.min(LONGEST_PAUSE.max(self.interval));
        // a little less: a round that begins early by a moment counts
        let next = (!cleared).then(|| now + pause.mul_f32(0.99));
        self.failed.insert(at, FailedAttempt { steps: steps.to_vec(), failures, next, problem });
    }

    /// Forgets what failed there.
    pub fn done(&mut self, at: &RetryKey) {
        self.failed.remove(at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::model::{ProfileChange, TargetProfile};

    fn step(from: u32) -> ProfileStep {
        let gpu = "0000:41:00.0".parse().unwrap();
        let address = "0000:41:00.5".parse().unwrap();
        let to = TargetProfile { name: "L40S-24Q".into(), id: Some(1155), profile: None };
        let to = Some(to);
        let change = ProfileChange::Vendor { from, from_name: None, to, again: false };
        ProfileStep { gpu, address, change }
    }

    /// Attempts in two hours of rounds, one each minute.
    fn attempts(cleared: bool) -> Vec<u64> {
        let mut retries = Retries::new(Duration::from_secs(60));
        let (step, mut attempts) = ([step(0)], Vec::new());
        for minute in 0..120 {
            let now = Duration::from_secs(60 * minute);
            if retries.pausing(&step[0].key(), &step, now).is_none() {
                attempts.push(minute);
                retries.failed(step[0].key(), &step, cleared, now, ());
            }
        }
        attempts
    }

    #[test]
    fn two_hours_of_a_driver_that_refuses_are_seven_attempts() {
        assert_eq!(attempts(false), [0, 1, 3, 7, 15, 31, 63]);
    }

    #[test]
    fn what_cleared_a_profile_in_vain_is_tried_once_until_something_changes() {
        assert_eq!(attempts(true), [0]);
        let mut retries = Retries::new(Duration::from_secs(60));
        let at = step(7).key();
        retries.failed(at.clone(), &[step(7)], true, Duration::ZERO, ());
        let later = Duration::from_secs(7200);
        assert!(retries.pausing(&at, &[step(7)], later).is_some());
        assert!(retries.pausing(&at, &[step(0)], later).is_none(), "the host has changed");
    }
}
