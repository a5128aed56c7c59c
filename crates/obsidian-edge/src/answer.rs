//! The way of an answer's bytes to the client: restore, stop strings, whole characters, then the channel.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use obsidian_sandbox::{Generation, ShieldSandbox};
use obsidian_shield::{Restorer, Vault};
use obsidian_types::limits::MAX_TOOL_CALLS;
use obsidian_types::{FinishReason, PromptText};
use tokio::sync::{OnceCell, mpsc};

use crate::account::{Account, Stage};
use crate::fault::Fault;
use crate::guests::Seated;
use crate::outcome::{Event, Part, Start, TokenLogprob};
use crate::pop::Pop;
use crate::shielding::Restoring;
use crate::text_gate::{Passed, TextGate};

/// Where the events of all choices of one request go.
pub(crate) struct Outgoing {
    events: mpsc::Sender<Event>,
    started: OnceCell<()>,
    patience: Duration,
}

impl Outgoing {
    /// Events go through `events`, to a client that may leave them unread for `patience`.
    pub(crate) fn new(events: mpsc::Sender<Event>, patience: Duration) -> Self {
        Self { events, started: OnceCell::new(), patience }
    }

    /// Tells once, before anything else, that an answer begins.
    async fn start(&self, account: &Account, model: &str) -> Result<(), Fault> {
        let start = || async {
            account.first_token();
            let start = Start { route: account.route(), reason: account.reason(), model: model.to_owned() };
            self.send(Event::Start(start)).await
        };
        self.started.get_or_try_init(start).await.copied()
    }

    /// Waits for room in the channel: a slow client slows its own pipeline down and nothing else.
    async fn send(&self, event: Event) -> Result<(), Fault> {
        match tokio::time::timeout(self.patience, self.events.send(event)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Fault::ClientGone),
        }
    }
}

/// More of a tool call, masked, as a model or an upstream says it.
pub(crate) struct CallPiece {
    /// Position among the calls of this answer.
    pub(crate) index: u32,
    /// In the first piece.
    pub(crate) id: Option<String>,
    /// In the first piece.
    pub(crate) name: Option<String>,
    /// More bytes of the arguments.
    pub(crate) arguments: Vec<u8>,
}

/// One answer (one choice) on its way out.
pub(crate) struct Answer {
    choice: u32,
    vault: Arc<Vault>,
    text: Restoring,
    gate: TextGate,
    logprobs: Vec<TokenLogprob>,
    reasoning: Restoring,
    reasoning_gate: TextGate,
    /// Originals as JSON strings hold them; made with the first call.
    escaped: Option<Vault>,
    calls: BTreeMap<u32, CallOut>,
    outgoing: Arc<Outgoing>,
}

/// One tool call's arguments on their way out. Each call has its own: their pieces may come interleaved.
struct CallOut {
    restorer: Restorer,
    gate: TextGate,
}

impl Answer {
    /// An answer that ends before any of `stop`; `shield` restores it, the native one if `None`.
    pub(crate) fn new(
        choice: u32,
        stop: &[PromptText],
        vault: Arc<Vault>,
        shield: Option<Arc<Generation<Seated<ShieldSandbox>>>>,
        outgoing: Arc<Outgoing>,
    ) -> Self {
        Self {
            choice,
            text: Restoring::new(vault.clone(), shield.clone()),
            gate: TextGate::new(stop.iter().map(PromptText::expose)),
            logprobs: Vec::new(),
            reasoning: Restoring::new(vault.clone(), shield),
            reasoning_gate: TextGate::new([]),
            escaped: None,
            calls: BTreeMap::new(),
            vault,
            outgoing,
        }
    }

    /// Which choice this is.
    pub(crate) fn choice(&self) -> u32 {
        self.choice
    }

    /// Whether a tool was called.
    pub(crate) fn has_calls(&self) -> bool {
        !self.calls.is_empty()
    }

    /// Notes log probabilities; they leave with the next text.
    pub(crate) fn note_logprobs(&mut self, logprobs: impl IntoIterator<Item = TokenLogprob>) {
        self.logprobs.extend(logprobs);
    }

    /// Takes masked bytes of the text; says whether a stop string was met.
    pub(crate) async fn push(
        &mut self,
        pop: &Pop,
        account: &Account,
        model: &str,
        bytes: Vec<u8>,
    ) -> Result<bool, Fault> {
        let restored = account.spent(Stage::Restore, self.text.push(pop, bytes)).await?;
        let passed = self.gate.push(&restored);
        self.send_text(account, model, passed).await
    }

    /// Takes masked bytes of the reasoning.
    pub(crate) async fn reason(
        &mut self,
        pop: &Pop,
        account: &Account,
        model: &str,
        bytes: Vec<u8>,
    ) -> Result<(), Fault> {
        let restored = account.spent(Stage::Restore, self.reasoning.push(pop, bytes)).await?;
        let passed = self.reasoning_gate.push(&restored);
        self.send_reasoning(account, model, passed).await
    }

    /// Takes more of a tool call. Restored natively: a sandbox for each call of an answer would let one request
    /// take many, and this is the same code.
    pub(crate) async fn call(&mut self, account: &Account, model: &str, piece: CallPiece) -> Result<(), Fault> {
        if !self.calls.contains_key(&piece.index) && self.calls.len() >= MAX_TOOL_CALLS {
            return Err(Fault::Model(format!("an answer called more than {MAX_TOOL_CALLS} tools")));
        }
        let vault = self.escaped.get_or_insert_with(|| self.vault.json_escaped());
        let call = self
            .calls
            .entry(piece.index)
            .or_insert_with(|| CallOut { restorer: Restorer::new(vault), gate: TextGate::new([]) });
        let restored = call.restorer.push(&piece.arguments);
        let arguments = call.gate.push(&restored).text;
        let plain = |text: String| String::from_utf8_lossy(&self.vault.restore(text.as_bytes())).into_owned();
        let (id, name) = (piece.id.map(plain), piece.name.map(plain));
        if id.is_none() && name.is_none() && arguments.is_empty() {
            return Ok(());
        }
        let part = Part::ToolCall { index: piece.index, id, name, arguments: PromptText::from(arguments) };
        self.send(account, model, part).await
    }

    /// Lets go of what was held back and ends this choice. An answer without any text begins here.
    pub(crate) async fn finish(
        &mut self,
        pop: &Pop,
        account: &Account,
        model: &str,
        reason: FinishReason,
    ) -> Result<(), Fault> {
        let rest = account.spent(Stage::Restore, self.reasoning.finish(pop)).await?;
        let mut passed = self.reasoning_gate.push(&rest);
        passed.text.push_str(&self.reasoning_gate.finish().text);
        self.send_reasoning(account, model, passed).await?;
        let rest = account.spent(Stage::Restore, self.text.finish(pop)).await?;
        let passed = self.gate.push(&rest);
        self.send_text(account, model, passed).await?;
        let passed = self.gate.finish();
        self.send_text(account, model, passed).await?;
        for (index, mut call) in std::mem::take(&mut self.calls) {
            let rest = call.restorer.finish();
            let mut arguments = call.gate.push(&rest).text;
            arguments.push_str(&call.gate.finish().text);
            if !arguments.is_empty() {
                let part = Part::ToolCall { index, id: None, name: None, arguments: PromptText::from(arguments) };
                self.send(account, model, part).await?;
            }
        }
        self.outgoing.start(account, model).await?;
        self.outgoing.send(Event::Finished { choice: self.choice, reason }).await
    }

    async fn send_text(&mut self, account: &Account, model: &str, passed: Passed) -> Result<bool, Fault> {
        if self.text.is_native() {
            account.degrade("shield", "native");
        }
        if !passed.text.is_empty() || !self.logprobs.is_empty() {
            let logprobs = std::mem::take(&mut self.logprobs);
            self.send(account, model, Part::Text { text: PromptText::from(passed.text), logprobs }).await?;
        }
        Ok(passed.stopped)
    }

    async fn send_reasoning(&mut self, account: &Account, model: &str, passed: Passed) -> Result<(), Fault> {
        if self.reasoning.is_native() {
            account.degrade("shield", "native");
        }
        if passed.text.is_empty() {
            return Ok(());
        }
        self.send(account, model, Part::Reasoning(PromptText::from(passed.text))).await
    }

    async fn send(&mut self, account: &Account, model: &str, part: Part) -> Result<(), Fault> {
        self.outgoing.start(account, model).await?;
        self.outgoing.send(Event::Delta { choice: self.choice, part }).await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use obsidian_shield::{Replacement, ShieldKey, Vault, mask};
    use proptest::prelude::*;
    use serde_json::Value;

    use super::{Account, Answer, CallPiece, Event, Outgoing, Part};

    /// The arguments of each call as a client puts them together, from pieces cut every `size` bytes and interleaved.
    fn restored(vault: &Vault, calls: &[String], size: usize) -> Vec<String> {
        let (events, mut arriving) = tokio::sync::mpsc::channel(4_096);
        let outgoing = Arc::new(Outgoing::new(events, Duration::from_secs(60)));
        let mut answer = Answer::new(0, &[], Arc::new(vault.clone()), None, outgoing);
        let account = Account::open(&crate::fixtures::request("x"), Instant::now());
        let longest = calls.iter().map(String::len).max().unwrap_or_default();
        let work = async {
            for start in (0..longest).step_by(size) {
                for (index, arguments) in calls.iter().enumerate() {
                    let piece = arguments.as_bytes().get(start..).unwrap_or_default();
                    let name = (start == 0).then(|| "f".to_owned());
                    let arguments = piece[..piece.len().min(size)].to_vec();
                    let piece = CallPiece { index: index as u32, id: name.clone(), name, arguments };
                    answer.call(&account, "model", piece).await.unwrap();
                }
            }
        };
        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(work);
        drop(answer);
        let mut texts = vec![String::new(); calls.len()];
        while let Ok(event) = arriving.try_recv() {
            if let Event::Delta { part: Part::ToolCall { index, arguments, .. }, .. } = event {
                texts[index as usize].push_str(arguments.expose());
            }
        }
        texts
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn whatever_an_original_holds_the_arguments_stay_json(
            first in "[a-z\"\\\\{}\\n\\t\u{1}é:, ]{1,12}",
            second in "[0-9\"\\\\'/😀]{1,12}",
            size in 1usize..40,
        ) {
            prop_assume!(first != second && first != "é");
            let key = ShieldKey::derive(&[3; 32], "c");
            let fields = ["a@example.com".to_owned(), "b@example.com".to_owned()];
            let placeholders = mask(&fields, &key).unwrap().fields;
            let replacement = |at: usize, original: &str| {
                Replacement { placeholder: placeholders[at].clone(), original: original.into() }
            };
            let vault = Vault::from_parts(vec![replacement(0, &first), replacement(1, &second)]).unwrap();
            let (one, two) = (&placeholders[0], &placeholders[1]);
            let calls = [format!("{{\"{one}\":[\"x{two}y\",1],\"é\":\"{one}\"}}"), format!("{{\"z\":\"{two}{one}\"}}")];
            let texts = restored(&vault, &calls, size);
            let parsed: Vec<Value> = texts.iter().map(|text| serde_json::from_str(text).unwrap()).collect();
            prop_assert_eq!(&parsed[0][&first][0], &Value::from(format!("x{second}y")));
            prop_assert_eq!(&parsed[0]["é"], &Value::from(first.clone()));
            prop_assert_eq!(&parsed[1]["z"], &Value::from(format!("{second}{first}")));
        }
    }
}
