//! What was found on a file starts the same model again, and nothing that claims to be that can do more than tokenise
//! wrongly.

use std::path::PathBuf;
use std::sync::OnceLock;

use obsidian_model::synthetic::Synthetic;
use obsidian_model::{ChatMessage, ChatPrompt, Model, Specials, Survey};
use proptest::prelude::*;

const TEXTS: [&str; 4] =
    ["hello world, within", "  <|im_start|>user\nhello<|im_end|>", "grün, 漢字, 🙂", "The station is on Main Street."];

fn shipped() -> &'static [u8] {
    static FILE: OnceLock<Vec<u8>> = OnceLock::new();
    FILE.get_or_init(|| {
        let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/obsidian-draft.gguf"));
        std::fs::read(path).expect("the shipped model")
    })
}

fn synthetic() -> &'static [u8] {
    static FILE: OnceLock<Vec<u8>> = OnceLock::new();
    FILE.get_or_init(|| Synthetic { layers: 1, vocabulary: 2_000, ..Synthetic::default() }.file())
}

fn tokens(model: &Model) -> Vec<Vec<u32>> {
    let tokenizer = model.tokenizer();
    let kinds = [Specials::AsText, Specials::Parse];
    let encoded = kinds.iter().flat_map(|specials| TEXTS.map(|text| tokenizer.encode(text, *specials)));
    let rendered =
        TEXTS.map(|text| model.render(&ChatPrompt::new(&[ChatMessage::new("user", text)])).expect("rendered"));
    encoded.chain(rendered).collect()
}

#[test]
fn a_surveyed_file_is_the_same_model() {
    for file in [shipped(), synthetic()] {
        let first = Model::from_static(file).unwrap();
        let survey = first.survey();
        assert_eq!(survey.tables.len(), 6);
        let again = Model::from_static_surveyed(file, survey.clone()).unwrap();
        assert_eq!(format!("{:?}", again.info()), format!("{:?}", first.info()));
        assert_eq!(tokens(&again), tokens(&first));
        assert_eq!(again.tokenizer().digest(), first.info().vocabulary_digest);
        assert_eq!(again.survey(), survey);
    }
}

#[test]
fn tables_of_another_file_are_looked_for_anew() {
    let other = Model::from_static(synthetic()).unwrap().survey();
    let model = Model::from_static_surveyed(shipped(), Survey { tables: other.tables, ..Survey::default() }).unwrap();
    assert_eq!(tokens(&model), tokens(&Model::from_static(shipped()).unwrap()));
}

proptest! {
    #[test]
    fn no_survey_makes_a_model_panic(
        changes in proptest::collection::vec((0_usize..6, 0.0_f64..1.0, any::<u32>()), 1..40),
        cut in proptest::option::weighted(0.3, (0_usize..6, 0.0_f64..1.0)),
    ) {
        static SURVEY: OnceLock<Survey> = OnceLock::new();
        let mut survey = SURVEY.get_or_init(|| Model::from_static(synthetic()).unwrap().survey()).clone();
        for (table, at, value) in changes {
            let table = &mut survey.tables[table];
            let at = (at * table.len() as f64) as usize;
            if let Some(number) = table.get_mut(at) {
                *number = value;
            }
        }
        if let Some((table, length)) = cut {
            let table = &mut survey.tables[table];
            table.truncate((length * table.len() as f64) as usize);
        }
        if let Ok(model) = Model::from_static_surveyed(synthetic(), survey) {
            for text in TEXTS {
                let ids = model.tokenizer().encode(text, Specials::Parse);
                let _ = model.tokenizer().decode(&ids);
                let _ = model.render(&ChatPrompt::new(&[ChatMessage::new("user", text)]));
            }
            let _ = (model.tokenizer().digest(), model.survey());
        }
    }
}
