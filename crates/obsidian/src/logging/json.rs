//! One JSON object a line: `timestamp`, `level`, `target`, `message`, `fields`, and the ids of the request.

use std::fmt;

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

/// Which request a span belongs to; kept with the span.
#[derive(Default)]
struct RequestIds {
    request: Option<String>,
    trace: Option<String>,
}

impl Visit for RequestIds {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let place = match field.name() {
            "request_id" => &mut self.request,
            "trace_id" => &mut self.trace,
            _ => return,
        };
        *place = Some(format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }
}

/// Remembers the ids that spans are made with.
pub(super) struct Ids;

impl<S: Subscriber + for<'span> LookupSpan<'span>> Layer<S> for Ids {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if let Some(span) = context.span(id) {
            let mut ids = RequestIds::default();
            attributes.record(&mut ids);
            span.extensions_mut().insert(ids);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(ids) = span.extensions_mut().get_mut::<RequestIds>()
        {
            values.record(ids);
        }
    }
}

/// The fields of an event.
#[derive(Default)]
struct Fields(Map<String, Value>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.0.insert(field.name().to_owned(), value.into());
    }
}

/// Writes the lines.
pub(super) struct Lines;

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    N: for<'writer> FormatFields<'writer> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut timestamp = String::new();
        SystemTime.format_time(&mut Writer::new(&mut timestamp))?;
        let mut fields = Fields::default();
        event.record(&mut fields);
        let mut line = Map::new();
        line.insert("timestamp".to_owned(), timestamp.into());
        line.insert("level".to_owned(), event.metadata().level().as_str().into());
        line.insert("target".to_owned(), event.metadata().target().into());
        for span in context.event_scope().into_iter().flatten() {
            let extensions = span.extensions();
            let Some(ids) = extensions.get::<RequestIds>() else { continue };
            for (name, id) in [("request_id", &ids.request), ("trace_id", &ids.trace)] {
                if let Some(id) = id {
                    line.entry(name).or_insert_with(|| id.clone().into());
                }
            }
        }
        line.insert("fields".to_owned(), fields.0.into());
        writeln!(writer, "{}", Value::Object(line))
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use serde_json::Value;
    use tracing_subscriber::layer::SubscriberExt;
    use tracing_subscriber::{Layer, Registry};

    use super::{Ids, Lines};

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_carry_the_ids_of_their_request() {
        let written = Written::default();
        let sink = written.clone();
        let lines = tracing_subscriber::fmt::layer().event_format(Lines).with_writer(move || sink.clone());
        let subscriber = Registry::default().with(Ids.and_then(lines));
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(count = 3, "before");
            let request = tracing::info_span!("request", request_id = "r-1", trace_id = tracing::field::Empty);
            request.record("trace_id", "t-1");
            let _request = request.enter();
            let _stage = tracing::info_span!("stage").entered();
            tracing::warn!(what = "a \"quote\"\nand a line", "inside");
        });
        let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 2);
        assert_eq!((&lines[0]["fields"]["count"], &lines[0]["request_id"]), (&3.into(), &Value::Null));
        assert_eq!((&lines[0]["fields"]["message"], &lines[0]["level"]), (&"before".into(), &"INFO".into()));
        assert_eq!((&lines[1]["request_id"], &lines[1]["trace_id"]), (&"r-1".into(), &"t-1".into()));
        assert_eq!(lines[1]["fields"]["what"], "a \"quote\"\nand a line");
        assert!(lines[1]["timestamp"].as_str().unwrap().ends_with('Z'));
    }
}
