//! Verification itself: what the hub emits for one window, and how much of the draft that confirms.
//!
//! Pure. The hub picks from its own distribution at every position with the coupled noise, exactly as it
//! would alone; a drafted id counts only by being equal to the pick. So the ids emitted cannot depend on the draft.

use obsidian_types::TokenId;
use obsidian_wire::proto::Finish;

/// The outcome of one window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Judged {
    /// How many drafted ids were emitted.
    pub(crate) accepted: usize,
    /// The id emitted after them; none when the answer ended with an accepted one.
    pub(crate) next: Option<TokenId>,
    /// Whether and why the answer is over.
    pub(crate) finish: Finish,
}

/// How many drafted ids are worth computing when `remaining` more ids may be emitted: the last emission
/// needs no logits after it.
pub(crate) fn useful(window: &[TokenId], remaining: usize) -> &[TokenId] {
    &window[..window.len().min(remaining.saturating_sub(1))]
}

/// Judges `window`. `pick(row)` is the id the hub emits after the last sure id and `row` accepted ones; it is
/// called for rows 0, 1, … in order. `remaining` ≥ 1 ids may still be emitted.
pub(crate) fn judge(
    window: &[TokenId],
    remaining: usize,
    end_ids: &[TokenId],
    mut pick: impl FnMut(usize) -> TokenId,
) -> Judged {
    let mut accepted = 0;
    loop {
        let emitted = pick(accepted);
        let finish = if end_ids.contains(&emitted) {
            Finish::End
        } else if accepted + 1 == remaining {
            Finish::Length
        } else {
            Finish::None
        };
        let confirmed = window.get(accepted) == Some(&emitted);
        accepted += usize::from(confirmed);
        if finish != Finish::None || !confirmed {
            return Judged { accepted, next: (!confirmed).then_some(emitted), finish };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Judged, judge, useful};
    use obsidian_wire::proto::Finish;
    use proptest::prelude::*;

    const END: u32 = 0;

    #[test]
    fn the_first_mismatch_ends_the_window() {
        let truth = [5, 6, 7, 8];
        let judged = judge(&[5, 6, 9], 10, &[END], |row| truth[row]);
        assert_eq!(judged, Judged { accepted: 2, next: Some(7), finish: Finish::None });
        let judged = judge(&[5, 6, 7], 10, &[END], |row| truth[row]);
        assert_eq!(judged, Judged { accepted: 3, next: Some(8), finish: Finish::None });
        assert_eq!(judge(&[], 10, &[END], |row| truth[row]).next, Some(5));
    }

    #[test]
    fn an_end_stops_whether_drafted_or_not() {
        let truth = [5, END, 7];
        let drafted = judge(&[5, END, 7], 10, &[END], |row| truth[row]);
        assert_eq!(drafted, Judged { accepted: 2, next: None, finish: Finish::End });
        let not_drafted = judge(&[5], 10, &[END], |row| truth[row]);
        assert_eq!(not_drafted, Judged { accepted: 1, next: Some(END), finish: Finish::End });
    }

    #[test]
    fn the_last_id_allowed_ends_the_answer() {
        let truth = [5, 6, 7];
        let drafted = judge(&[5, 6, 7], 2, &[END], |row| truth[row]);
        assert_eq!(drafted, Judged { accepted: 2, next: None, finish: Finish::Length });
        assert_eq!(judge(&[], 1, &[END], |row| truth[row]).finish, Finish::Length);
    }

    proptest! {
        /// Whatever is drafted, in whatever windows, the ids emitted are those of decoding alone; and no row
        /// is picked from that was not computed.
        #[test]
        fn the_answer_does_not_depend_on_the_drafts(
            truth in prop::collection::vec(0u32..4, 1..60),
            drafts in prop::collection::vec(prop::collection::vec(0u32..4, 0..6), 60),
            length in 1usize..60,
        ) {
            let length = length.min(truth.len());
            let alone: Vec<u32> = {
                let end = truth.iter().take(length).position(|id| *id == END).map_or(length, |at| at + 1);
                truth[..end].to_vec()
            };
            let mut emitted = Vec::new();
            for window in drafts {
                let (start, remaining) = (emitted.len(), length - emitted.len());
                let rows = useful(&window, remaining).len() + 1;
                let judged = judge(&window, remaining, &[END], |row| {
                    assert!(row < rows);
                    truth[start + row]
                });
                emitted.extend(window.iter().take(judged.accepted));
                emitted.extend(judged.next);
                if judged.finish != Finish::None {
                    break;
                }
            }
            prop_assert_eq!(emitted, alone);
        }
    }
}
