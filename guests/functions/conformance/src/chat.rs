//! The node's models: `/chat?model=…`, the body is what the user says. The answer's pieces are passed on as they come,
//! and behind them a line that says how it ended.

use wasip2::http::types::ResponseOutparam;

use crate::answer::{self, Answer};
use crate::obsidian::functions::chat::{self, Error, Message, Options, Piece, Role, Summary};
use crate::streaming;
use crate::wasi::io::poll::poll;
use crate::{Call, Failure, Outcome};

pub(crate) fn ask(call: Call) -> Outcome {
    let question = streaming::whole(&call.request)?;
    match call.rest() {
        "" => relay(call, &question, chat::Answer::next),
        // The same for a guest that waits for several things at once.
        "poll" => relay(call, &question, |answer| {
            let pollable = answer.subscribe();
            poll(&[&pollable]);
            assert!(pollable.ready(), "what was waited for is there");
            drop(pollable);
            answer.next()
        }),
        "many" => many(call, &question),
        "forget" => {
            let begun = begin(&call, &question).map(std::mem::forget);
            answer::text(call.out, 200, &format!("{}\n", begun.is_ok()))
        }
        _ => answer::text(call.out, 404, "no such way to ask\n"),
    }
}

fn begin(call: &Call, question: &str) -> Result<chat::Answer, Error> {
    let mut messages = Vec::new();
    let says = |role, content: &str| Message { role, content: content.to_owned() };
    messages.extend(call.parameter("system").map(|text| says(Role::System, text)));
    messages.push(says(Role::User, question));
    let options = Options {
        max_tokens: parsed(call, "max-tokens")?,
        temperature: parsed(call, "temperature")?,
        top_p: parsed(call, "top-p")?,
        seed: parsed(call, "seed")?,
        stop: call.parameter("stop").map(str::to_owned).into_iter().collect(),
    };
    chat::ask(call.parameter("model").unwrap_or("edge"), &messages, &options)
}

fn parsed<T: std::str::FromStr>(call: &Call, name: &str) -> Result<Option<T>, Error> {
    let wrong = |_| Error::Invalid(format!("{name} is no number"));
    call.parameter(name).map(str::parse).transpose().map_err(wrong)
}

/// Passes the answer on. Its head waits for the first piece, so that a refusal has a status of its own.
fn relay(call: Call, question: &str, next: impl Fn(&chat::Answer) -> Result<Piece, Error>) -> Outcome {
    let coming = match begin(&call, question) {
        Ok(coming) => coming,
        Err(error) => return refuse(call.out, error),
    };
    let mut piece = match next(&coming) {
        Ok(piece) => piece,
        Err(error) => return refuse(call.out, error),
    };
    let answer = Answer::begin(call.out, 200, &[("content-type".to_owned(), b"text/plain".to_vec())])?;
    loop {
        match piece {
            Piece::Text(text) => answer.write(text.as_bytes())?,
            Piece::End(Summary { reason, usage, model }) => {
                let again = matches!(next(&coming), Ok(Piece::End(_)));
                let (prompt, completion) = (usage.prompt_tokens, usage.completion_tokens);
                answer.write(format!("\n{reason:?} {prompt}+{completion} {model} {again}\n").as_bytes())?;
                return answer.finish(None);
            }
        }
        piece = next(&coming).map_err(|error| Failure(format!("the answer broke off: {error:?}")))?;
    }
}

/// Begins several at once: a line for each, and what is told of the last after one was dropped.
fn many(call: Call, question: &str) -> Outcome {
    let count = call.number("count", 1)?;
    let told = |begun: &Result<chat::Answer, Error>| match begun {
        Ok(_) => "begun\n".to_owned(),
        Err(error) => format!("{error:?}\n"),
    };
    let mut begun: Vec<_> = (0..count).map(|_| begin(&call, question)).collect();
    let mut text: String = begun.iter().map(told).collect();
    drop(begun.remove(0));
    text.push_str(&told(&begin(&call, question)));
    answer::text(call.out, 200, &text)
}

fn refuse(out: ResponseOutparam, error: Error) -> Outcome {
    let (status, reason) = match error {
        Error::NotGranted(reason) => (403, reason),
        Error::UnknownModel(reason) => (404, reason),
        Error::Invalid(reason) => (400, reason),
        Error::TooLong(reason) => (413, reason),
        Error::Busy(wait) => (429, format!("{} ({} s)", wait.reason, wait.seconds)),
        Error::Failed(reason) => (502, reason),
    };
    answer::text(out, status, &(reason + "\n"))
}
