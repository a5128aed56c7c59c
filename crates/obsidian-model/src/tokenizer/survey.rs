//! What a look through a vocabulary finds, kept so that the next start on the same file need not look again.

use std::vec::IntoIter;

/// Tables of one tokenizer: places of strings, hashes. Only the same code on the same file can make sense of them; with
/// others text is tokenised wrongly, and nothing worse.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// [`super::Tokenizer::digest`].
    pub digest: String,
    /// The tables, in the order in which they are needed.
    pub tables: Vec<Vec<u32>>,
}

/// The tables of a survey, as they are taken; whoever gets none makes its own.
#[derive(Default)]
pub(super) struct Tables(IntoIter<Vec<u32>>);

impl Tables {
    pub(super) fn of(survey: Option<Survey>) -> Self {
        Self(survey.unwrap_or_default().tables.into_iter())
    }

    pub(super) fn take(&mut self) -> Option<Vec<u32>> {
        self.0.next()
    }
}
