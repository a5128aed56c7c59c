//! What one drafter found by looking through large vocabularies, by weights, so that its next sandbox on the same file
//! starts without looking. It is taken before a sandbox gets its first request, and says nothing about any.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use obsidian_registry::Digest;
use obsidian_types::limits::{MAX_SURVEY_BYTES, MAX_SURVEYS};

use super::instance::Findings;

/// The latest surveys. Cloning gives another handle to the same ones.
#[derive(Clone, Default)]
pub(super) struct Surveys(Arc<Mutex<Vec<Known>>>);

/// What was found on one file.
struct Known {
    weights: Digest,
    findings: Arc<Findings>,
}

impl Surveys {
    /// What was found on these weights.
    pub(super) fn find(&self, weights: Digest) -> Option<Arc<Findings>> {
        self.all().iter().find(|known| known.weights == weights).map(|known| known.findings.clone())
    }

    /// Keeps what was found, unless it is nothing or too much. The oldest goes where there are many.
    pub(super) fn keep(&self, weights: Digest, findings: Findings) {
        let numbers: usize = findings.tables.iter().map(Vec::len).sum();
        if numbers == 0 || numbers.saturating_mul(4) > MAX_SURVEY_BYTES {
            return;
        }
        let mut all = self.all();
        all.retain(|known| known.weights != weights);
        if all.len() >= MAX_SURVEYS {
            all.remove(0);
        }
        all.push(Known { weights, findings: Arc::new(findings) });
    }

    fn all(&self) -> MutexGuard<'_, Vec<Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use obsidian_registry::Digest;
    use obsidian_types::limits::{MAX_SURVEY_BYTES, MAX_SURVEYS};

    use super::{Findings, Surveys};

    fn findings(numbers: usize) -> Findings {
        Findings { digest: String::new(), tables: vec![vec![7; numbers]] }
    }

    #[test]
    fn few_are_kept_and_none_that_is_large() {
        let surveys = Surveys::default();
        let weights: Vec<Digest> = (0..=MAX_SURVEYS).map(|number| Digest::of(&number.to_le_bytes())).collect();
        for digest in &weights {
            surveys.keep(*digest, findings(1));
        }
        assert!(surveys.find(weights[0]).is_none(), "the oldest has gone");
        assert!(weights[1..].iter().all(|digest| surveys.find(*digest).is_some()));
        surveys.keep(weights[0], findings(MAX_SURVEY_BYTES / 4 + 1));
        surveys.keep(weights[0], findings(0));
        assert!(surveys.find(weights[0]).is_none());
        surveys.keep(weights[2], findings(2));
        assert_eq!(surveys.find(weights[2]).map(|found| found.tables[0].len()), Some(2));
    }
}
