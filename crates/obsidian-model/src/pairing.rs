//! Whether two models can draft for one another: the same ids must mean the same bytes.
//!
//! Published pairs often differ in padding at the end of their vocabularies, so unused ids that only one model
//! has do not part them. This is what [`Tokenizer::digest`] compares in one word; here the reason comes with it.

use crate::tokenizer::Tokenizer;

/// How two tokenizers fit together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pairing {
    /// Equal in every token.
    Same,
    /// Equal over the first `common` tokens; one of them has unused ones after those.
    Common {
        /// Number of tokens compared.
        common: u32,
        /// Unused tokens that only one of them has.
        further: u32,
    },
    /// They do not fit, because of this.
    Different(String),
}

impl Pairing {
    /// Compares two tokenizers.
    pub fn of(left: &Tokenizer, right: &Tokenizer) -> Self {
        let (left_size, right_size) = (left.vocabulary_size(), right.vocabulary_size());
        let common = left_size.min(right_size);
        for id in 0..common {
            if left.piece(id) != right.piece(id) {
                let shown = |tokenizer: &Tokenizer| {
                    String::from_utf8_lossy(&tokenizer.piece(id).unwrap_or_default()).escape_debug().to_string()
                };
                return Self::Different(format!(
                    "token {id} is \"{}\" in one and \"{}\" in the other",
                    shown(left),
                    shown(right)
                ));
            }
            if left.is_control(id) != right.is_control(id) {
                return Self::Different(format!("token {id} is a control token in one and text in the other"));
            }
        }
        if left.begin_id() != right.begin_id() {
            return Self::Different(format!(
                "texts begin with {:?} in one and {:?} in the other",
                left.begin_id(),
                right.begin_id()
            ));
        }
        if left.end_ids() != right.end_ids() {
            return Self::Different(format!(
                "answers end at {:?} in one and {:?} in the other",
                left.end_ids(),
                right.end_ids()
            ));
        }
        match left_size.abs_diff(right_size) {
            0 => Self::Same,
            further if left.digest() == right.digest() => Self::Common { common, further },
            further => Self::Different(format!(
                "they have the first {common} tokens in common, and one of them uses more: it has {further} further ones"
            )),
        }
    }

    /// Whether drafts of one make sense to the other.
    pub fn fits(&self) -> bool {
        !matches!(self, Self::Different(_))
    }
}

impl std::fmt::Display for Pairing {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Same => formatter.write_str("the same tokens throughout"),
            Self::Common { common, further } => {
                write!(formatter, "the same {common} tokens; one has {further} unused ones more")
            }
            Self::Different(reason) => formatter.write_str(reason),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Pairing;
    use crate::Model;
    use crate::synthetic::Synthetic;

    fn model(vocabulary: u32) -> Model {
        Model::from_bytes(Synthetic { vocabulary, ..Synthetic::default() }.file()).unwrap()
    }

    #[test]
    fn padding_does_not_part_a_pair() {
        let (short, long) = (model(288), model(320));
        assert_eq!(Pairing::of(short.tokenizer(), short.tokenizer()), Pairing::Same);
        let padded = Pairing::of(short.tokenizer(), long.tokenizer());
        assert_eq!(padded, Pairing::Common { common: 288, further: 32 });
        assert_eq!(Pairing::of(long.tokenizer(), short.tokenizer()), padded);
    }

    #[test]
    fn another_token_or_end_is_named() {
        let file = Synthetic::default().file();
        let plain = Model::from_bytes(file.clone()).unwrap();
        let at = file.windows(5).position(|window| window == b"hello").unwrap();
        let mut other = file.clone();
        // The merge that makes it lies after the vocabulary and has a space in it.
        other[at..at + 5].copy_from_slice(b"jello");
        if let Ok(other) = Model::from_bytes(other) {
            let Pairing::Different(reason) = Pairing::of(plain.tokenizer(), other.tokenizer()) else {
                panic!("not noticed")
            };
            assert!(reason.contains("hello"), "{reason}");
        }
        let end = b"tokenizer.ggml.eos_token_id";
        let at = file.windows(end.len()).position(|window| window == end).unwrap() + end.len() + 4;
        let mut other = file.clone();
        other[at..at + 4].copy_from_slice(&5_u32.to_le_bytes());
        let other = Model::from_bytes(other).unwrap();
        let Pairing::Different(reason) = Pairing::of(plain.tokenizer(), other.tokenizer()) else {
            panic!("not noticed")
        };
        assert!(reason.contains("answers end at"), "{reason}");
    }
}
